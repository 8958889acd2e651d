package announcing

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/announce"
	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/test/netlab"
)

// asNode in the environment has a program be the node that it describes.
const asNode = "SIGNPOST_TEST_ANNOUNCER"

// Node is what a node is told.
type Node struct {
	Name  string
	Nodes map[string]netip.Addr
	// Addresses are those that it may announce, on all nodes.
	Addresses []netip.Addr
	// Verbose has it log.
	Verbose bool
}

func (n *Node) wishes() *announce.Wishes {
	out := &announce.Wishes{Nodes: n.Nodes, Own: []netip.Addr{n.Nodes[n.Name]}, Addresses: map[netip.Addr]eligible.Address{}}
	var names []string
	for name := range n.Nodes {
		names = append(names, name)
	}
	for _, a := range n.Addresses {
		out.Addresses[a] = eligible.Address{Nodes: names}
	}
	return out
}

// Said is a line that a node prints.
type Said struct {
	Address  netip.Addr
	Conflict string `json:",omitempty"`
}

// Be does not return if this process is to be a node: then it is one until it is
// told to stop. A Node on its standard input replaces what it was told.
func Be() {
	text, ok := os.LookupEnv(asNode)
	if !ok {
		return
	}
	if err := be(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func be(text string) error {
	var wishes atomic.Pointer[announce.Wishes]
	changed := make(chan struct{}, 1)
	var name string
	take := func(text []byte) error {
		var n Node
		if err := json.Unmarshal(text, &n); err != nil {
			return err
		}
		name = n.Name
		wishes.Store(n.wishes())
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	}
	if err := take([]byte(text)); err != nil {
		return err
	}
	level := slog.LevelWarn
	var n Node
	if json.Unmarshal([]byte(text), &n) == nil && n.Verbose {
		level = slog.LevelDebug
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(s Said) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(s) // nobody listens any more
	}
	a, err := announce.New(announce.Options{
		NodeName: name, Port: announce.DefaultPort, Wishes: wishes.Load, Changed: changed,
		Taken:      func(address netip.Addr) { say(Said{Address: address}) },
		Conflict:   func(address netip.Addr, message string) { say(Said{address, message}) },
		Registerer: prometheus.NewRegistry(),
		Log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", name),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // ends with who has started this process, and this process with it
		defer stop()
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if err := take(lines.Bytes()); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return a.Run(ctx)
}

// Process is a node that runs.
type Process struct {
	cmd    *exec.Cmd
	stdin  *json.Encoder
	reader sync.WaitGroup

	mu   sync.Mutex
	said []Said
}

// Start starts a node in a namespace.
func Start(in *netlab.Namespace, n Node) (*Process, error) {
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), asNode+"="+string(text))
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal from the terminal is not for it
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = json.NewEncoder(stdin)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := in.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting node %s: %w", n.Name, err)
	}
	p.reader.Go(func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var s Said
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				p.mu.Lock()
				p.said = append(p.said, s)
				p.mu.Unlock()
			}
		}
	})
	return p, nil
}

// Tell replaces what the node was told.
func (p *Process) Tell(n Node) error { return p.stdin.Encode(n) }

// Said returns what the node has said.
func (p *Process) Said() []Said {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Said{}, p.said...)
}

// Signal sends the node a signal that does not end it.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the node without a word.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop tells the node to stop, and waits until it has.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(s syscall.Signal) {
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // lest it never hears of the other one
	_ = p.cmd.Process.Signal(s)               // it may have ended already
	p.reader.Wait()
	_ = p.cmd.Wait()
}
