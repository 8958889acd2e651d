package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/usage"
	"github.com/signpost-dev/signpost/test/host"
	"github.com/signpost-dev/signpost/test/netlab"
)

const (
	startLimit = 2 * time.Minute
	// settles is how long a server is left alone before it is measured.
	settles = 5 * time.Second
	// floodLead is how long a flood begins before its effect is measured, and how
	// long it goes on after.
	floodLead = time.Second
)

func main() {
	services := flag.Int("services", 10000, "Services")
	length := flag.Duration("for", 8*time.Second, "how long to ask in each way")
	only := flag.String("only", "", "part of the name of the servers to measure, all if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, *services, *length, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-dns:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, services int, length time.Duration, only string) error {
	dir, err := os.MkdirTemp("", "signpost-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	all, err := contenders(ctx, dir)
	if err != nil {
		return err
	}
	server, err := apiserver.Start(ctx, apiserver.Options{Args: []string{"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	w, err := newWorld(ctx, server, services)
	if err != nil {
		return err
	}
	fmt.Println("| server | what | rate | asked | lost | p50 | p99 | CPU s | answers per CPU s | memory (peak), MiB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for _, c := range all {
		if !strings.Contains(c.name, only) {
			continue
		}
		if err := c.measure(ctx, server, w, length); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// measure lets a server answer, on a node of its own.
func (c *contender) measure(ctx context.Context, server *apiserver.Server, w *world, length time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "signpost-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := host.New(dir, hostName, server, "client", "other")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Stop()) }()
	var others *dns.Server
	if err := h.Node.Do(func() (err error) { others, err = serveUpstream(upstream); return err }); err != nil {
		return err
	}
	defer func() { _ = others.Shutdown() }()
	if err := c.start(ctx, h, w); err != nil {
		return err
	}
	pod := h.Pod("client")
	if err := c.awaitAll(ctx, h, pod, w); err != nil {
		return err
	}
	time.Sleep(settles)
	idle, err := usage.Of(h.PID())
	if err != nil {
		return err
	}
	fmt.Printf("| %s | idle | | | | | | %.1f so far | | %s |\n", c.name, idle.CPU.Seconds(), idle.Memory())
	order, mixes := w.mixes()
	for _, kind := range order {
		// Once for what is to be kept, and once to be measured.
		warm := load{questions: mixes[kind], network: "udp", rate: 10000, length: 3 * time.Second}
		if _, err := run(ctx, pod, c.at, warm); err != nil {
			return err
		}
		rates := []float64{10000, 0}
		if kind == "mixed" {
			rates = []float64{1000, 5000, 10000, 0}
		}
		for _, rate := range rates {
			l := load{questions: mixes[kind], network: "udp", rate: rate, length: length}
			if err := c.row(ctx, h, pod, kind, l); err != nil {
				return err
			}
		}
	}
	if err := c.row(ctx, h, pod, "A over TCP", load{questions: mixes["A"], network: "tcp", length: length}); err != nil {
		return err
	}
	return c.flooded(ctx, h, mixes["A"], length)
}

// flooded asks from one pod at a modest rate, while another one asks as often as it
// can and does not wait for answers.
func (c *contender) flooded(ctx context.Context, h *host.Host, questions [][]byte, length time.Duration) error {
	flood := load{questions: questions, network: "udp", rate: 1e6, length: length + 2*floodLead}
	var sent *answers
	var running errgroup.Group
	running.Go(func() (err error) {
		sent, err = run(ctx, h.Pod("client"), c.at, flood)
		return err
	})
	time.Sleep(floodLead)
	err := c.row(ctx, h, h.Pod("other"), "A, beside a pod that floods", load{questions: questions, network: "udp", rate: 500, length: length})
	if err := errors.Join(err, running.Wait()); err != nil {
		return err
	}
	fmt.Printf("| %s | the flood | %.0f/s | %d | %.2f %% | | | | | |\n", c.name, float64(sent.asked)/sent.took.Seconds(), sent.asked, 100*sent.lost())
	return nil
}

// row runs a load and prints what came of it.
func (c *contender) row(ctx context.Context, h *host.Host, pod *netlab.Namespace, what string, l load) error {
	before, err := usage.Of(h.PID())
	if err != nil {
		return err
	}
	a, err := run(ctx, pod, c.at, l)
	if err != nil {
		return err
	}
	var used usage.Usage
	if err := used.Since(before, h.PID()); err != nil {
		return err
	}
	rate := fmt.Sprintf("%.0f/s", l.rate)
	if l.rate == 0 {
		rate = fmt.Sprintf("at most: %.0f/s", float64(a.answered)/a.took.Seconds())
	}
	fmt.Printf("| %s | %s | %s | %d | %.2f %% | %v | %v | %.2f | %.0f | %s |\n", c.name, what, rate, a.asked, 100*a.lost(),
		a.percentile(0.5).Round(time.Microsecond), a.percentile(0.99).Round(time.Microsecond),
		used.CPU.Seconds(), float64(a.answered)/max(used.CPU.Seconds(), 0.01), used.Memory())
	return nil
}

// awaitAll waits until the server knows the Services.
func (c *contender) awaitAll(ctx context.Context, h *host.Host, pod *netlab.Namespace, w *world) error {
	for deadline := time.Now().Add(startLimit); ; time.Sleep(100 * time.Millisecond) {
		err := c.knows(ctx, pod, w)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("does not know all Services after %v: %w; its log:\n%s", startLimit, err, h.Log())
		}
	}
}

func (c *contender) knows(ctx context.Context, pod *netlab.Namespace, w *world) error {
	for _, i := range []int{0, len(w.names) / 2, len(w.names) - 1} {
		var m *dns.Msg
		err := pod.Do(func() error {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", c.at.String())
			if err != nil {
				return err
			}
			defer conn.Close()
			q := &dns.Client{Timeout: time.Second}
			m, _, err = q.ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(w.names[i], dns.TypeA), &dns.Conn{Conn: conn})
			return err
		})
		if err != nil {
			return err
		}
		if len(m.Answer) != 1 {
			return fmt.Errorf("%s: %s", w.names[i], dns.RcodeToString[m.Rcode])
		}
		if a, ok := m.Answer[0].(*dns.A); !ok || !a.A.Equal(net.IP(w.addrs[i].AsSlice())) {
			return fmt.Errorf("%s: %v", w.names[i], m.Answer[0])
		}
	}
	return nil
}
