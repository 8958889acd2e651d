// Package step tells a person at a terminal how a long job goes: a line when a
// step has ended, with the time it took, and a sign of life while it has not.
package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// interval is how often a step that has not ended says so.
const interval = 10 * time.Second

// Printer prints steps. Several may run at once. The zero value is no printer.
type Printer struct {
	Out io.Writer
	mu  sync.Mutex
}

// Do runs one step, and prints "==> WHAT (8.2 s)" when it has succeeded.
// While it runs, a line each ten seconds names it.
func (p *Printer) Do(what string, run func() error) error {
	begin := time.Now()
	ended := make(chan struct{})
	var alive sync.WaitGroup
	alive.Go(func() { p.signOfLife(what, begin, ended) })
	err := run()
	close(ended)
	alive.Wait()
	if err == nil {
		p.Say("==> %s (%.1f s)", what, time.Since(begin).Seconds())
	}
	return err
}

func (p *Printer) signOfLife(what string, begin time.Time, ended <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			p.Say("    … %s: %.0f s", what, time.Since(begin).Seconds())
		}
	}
}

// Say prints a line.
func (p *Printer) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Out, format+"\n", args...)
}

// Failure is what a person is told when a step fails: what failed, the end of
// the log that says why, and what to do about it.
type Failure struct {
	What string
	Err  error
	Log  string // a file, or empty
	Hint string // a sentence, or empty
}

// Error is all of it, on several lines.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.What)
	if f.Err != nil {
		fmt.Fprintf(&b, ": %v", f.Err)
	}
	if f.Log != "" {
		fmt.Fprintf(&b, "\nlog: %s", f.Log)
		for _, line := range lastLines(f.Log, 8) {
			b.WriteString("\n  | " + line)
		}
	}
	if f.Hint != "" {
		b.WriteString("\n" + f.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// lastLines returns the end of a file, as far as it is of interest to a person.
func lastLines(file string, n int) []string {
	const tail, width = 16 << 10, 300
	f, err := os.Open(file)
	if err != nil {
		return []string{err.Error()}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		if _, err := f.Seek(-tail, io.SeekEnd); err != nil {
			return []string{err.Error()}
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, l := range lines {
		if len(l) > width {
			lines[i] = l[:width] + " …"
		}
	}
	return lines
}

// Await calls check until it returns nil. When the time is over, or check
// returns an error that wraps ErrHopeless, it returns the last error.
func Await(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	const pause = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		err := check(ctx)
		if err == nil || errors.Is(err, ErrHopeless) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("not within %v: %w", limit, last)
		case <-time.After(pause):
		}
	}
}

// ErrHopeless says that waiting longer is of no use.
var ErrHopeless = errors.New("this does not get better")
