package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shot is one new connection that a Probe made.
type Shot struct {
	// Begin is when the connection was begun: when its first packet met the
	// rules. End is when its answer was complete, or its failure known.
	Begin, End time.Time
	// Pod is the pod that answered, or empty.
	Pod string
	// Err says why nobody answered, or is empty.
	Err string
}

// Probe makes new connections at a steady rate, see the command probe.
type Probe struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan error // the reader's result, sent once

	mu    sync.Mutex
	shots []Shot
}

// Probe begins to ask url rate times per second, each time over a new
// connection, from the network namespace of the pod that has this address: its
// packets take the way of a pod's. Call Stop in the end.
//
// A url like dns://10.96.0.10/alpaca-prod.default.svc.cluster.local asks that
// server for the name; what it answers stands in the place of the pod.
func (c *Cluster) Probe(ctx context.Context, podIP, url string, rate float64) (*Probe, error) {
	return c.probe(ctx, podIP, url, rate, 0)
}

// ProbeKept is Probe over so many connections that are kept, and asked in turn.
func (c *Cluster) ProbeKept(ctx context.Context, podIP, url string, rate float64, kept int) (*Probe, error) {
	return c.probe(ctx, podIP, url, rate, kept)
}

func (c *Cluster) probe(ctx context.Context, podIP, url string, rate float64, kept int) (*Probe, error) {
	netns, err := c.Quiet().hack(ctx, "pod-netns", podIP)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+strings.TrimSpace(netns),
		c.tool("probe"), "-url", url, "-rate", strconv.FormatFloat(rate, 'f', -1, 64), "-kept", strconv.Itoa(kept))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the probe: %w", err)
	}
	p := &Probe{cmd: cmd, stdin: stdin, done: make(chan error, 1)}
	go func() {
		err := p.read(stdout)
		if waitErr := cmd.Wait(); err == nil && waitErr != nil {
			err = fmt.Errorf("probe of %s: %w: %s", url, waitErr, stderr.String())
		}
		p.done <- err
	}()
	return p, nil
}

func (p *Probe) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		s, err := parseShot(lines.Text())
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.shots = append(p.shots, s)
		p.mu.Unlock()
	}
	return lines.Err()
}

func parseShot(line string) (Shot, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return Shot{}, fmt.Errorf("line of the probe: %q, want three fields", line)
	}
	begin, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return Shot{}, fmt.Errorf("line of the probe: begin: %w", err)
	}
	end, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return Shot{}, fmt.Errorf("line of the probe: end: %w", err)
	}
	s := Shot{Begin: time.Unix(0, begin), End: time.Unix(0, end)}
	if reason, failed := strings.CutPrefix(f[2], "!"); failed {
		s.Err = reason
	} else {
		s.Pod = f[2]
	}
	return s, nil
}

// Shots returns the connections that have ended so far, by their begin.
func (p *Probe) Shots() []Shot {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.shots)
	slices.SortFunc(out, func(a, b Shot) int { return a.Begin.Compare(b.Begin) })
	return out
}

// Forget drops the connections of before t, so that a long measurement does not
// keep what it has evaluated.
func (p *Probe) Forget(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shots = slices.DeleteFunc(p.shots, func(s Shot) bool { return s.Begin.Before(t) })
}

// Stop ends the probe, waits for the connections under way, and returns all.
func (p *Probe) Stop() ([]Shot, error) {
	// Its end of input is how the probe knows; if that is closed already, so
	// much the better.
	_ = p.stdin.Close()
	err := <-p.done
	return p.Shots(), err
}
