package forward

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// errAbandoned is what those who wait get when the search panicked, errStopped
// when there is no search any more.
var (
	errAbandoned = errors.New("the search for an answer was lost to a fault")
	errStopped   = errors.New("the forwarder has stopped")
)

// flights makes those who ask the same at the same time share one answer. That is
// cheap, and a forger would need many equal questions at a time to have a fair
// chance to guess one (CVE-2023-30464).
type flights struct {
	mu sync.Mutex
	m  map[key]*flight
}

// flight is the search for one answer, on behalf of all who wait for it. It goes
// on when they have left: the answer is kept for whoever comes next.
type flight struct {
	done   chan struct{} // closed when answer and err are final
	answer *Answer
	err    error
}

// join returns the flight for k, and begins one if there is none; shared tells
// which.
func (f *Forwarder) join(k key) (fl *flight, shared bool) {
	f.flights.mu.Lock()
	defer f.flights.mu.Unlock()
	if fl, ok := f.flights.m[k]; ok {
		return fl, true
	}
	fl = &flight{done: make(chan struct{}), err: errAbandoned}
	if !f.background.start(func() { f.fly(k, fl) }) {
		fl.err = errStopped
		close(fl.done)
		return fl, false
	}
	if f.flights.m == nil {
		f.flights.m = map[key]*flight{}
	}
	f.flights.m[k] = fl
	return fl, false
}

func (f *Forwarder) fly(k key, fl *flight) {
	defer func() {
		f.flights.mu.Lock()
		delete(f.flights.m, k)
		f.flights.mu.Unlock()
		close(fl.done)
	}()
	fl.answer, fl.err = f.ask(k)
}

// background is the goroutines of a Forwarder: how they end, and that a fault in
// one does not end the process, which programs the node's packets, too.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	panics func(err error)

	mu      sync.Mutex
	stopped bool
	wg      sync.WaitGroup
}

func newBackground(panics func(error)) *background {
	b := &background{panics: panics}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// start runs work in a goroutine, unless stop was called.
func (b *background) start(work func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.wg.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				b.panics(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		work()
	})
	return true
}

// stop ends all work and waits for it.
func (b *background) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
}
