package announcing

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
	"github.com/signpost-dev/signpost/test/netlab"
)

// Witness asks who has some addresses, over and over again, and remembers all
// answers and announcements.
type Witness struct {
	asker *Asker
	done  chan struct{}
	loop  sync.WaitGroup

	mu    sync.Mutex
	heard map[netip.Addr][]Answer
	err   error
}

// NewWitness asks for each address once in a period, until Close.
func NewWitness(host *netlab.Namespace, addresses []netip.Addr, period time.Duration) (*Witness, error) {
	w := &Witness{done: make(chan struct{}), heard: map[netip.Addr][]Answer{}}
	var err error
	if w.asker, err = NewAsker(host, w.take); err != nil {
		return nil, err
	}
	w.loop.Go(func() { w.ask(addresses, period) })
	return w, nil
}

func (w *Witness) ask(addresses []netip.Addr, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-ticker.C:
		}
		for _, a := range addresses {
			if err := w.asker.Ask(a); err != nil {
				w.mu.Lock()
				w.err = err
				w.mu.Unlock()
			}
		}
	}
}

// Close ends it, and returns why it could not ask, if there was a time.
func (w *Witness) Close() error {
	close(w.done)
	w.loop.Wait()
	return errors.Join(w.asker.Close(), w.err)
}

func (w *Witness) take(a Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard[a.Address] = append(w.heard[a.Address], a)
}

// Heard returns what was heard about an address since the last Forget, in the
// order in which it came.
func (w *Witness) Heard(address netip.Addr) []Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Answer{}, w.heard[address]...)
}

// Forget begins a new record, with the last answer of the one before.
func (w *Witness) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for address, heard := range w.heard {
		w.heard[address] = heard[len(heard)-1:]
	}
}

// fresh is how old an answer may be to count as one of now.
const fresh = 200 * time.Millisecond

// Owner returns who answers for an address now, and false if nobody does.
func (w *Witness) Owner(address netip.Addr) (frame.MAC, bool) {
	heard := w.Heard(address)
	if len(heard) == 0 {
		return frame.MAC{}, false
	}
	last := heard[len(heard)-1]
	return last.MAC, time.Since(last.At) < fresh
}

// Move is how an address came from one to another.
type Move struct {
	From, To frame.MAC
	// Last is when the one was heard last before the other was heard First.
	Last, First time.Time
	// Double is for how long the one was still heard after that; 0 if it was not.
	Double time.Duration
}

// Moves finds the moves in a record: each time that an answer is of another one than the
// answer before. An answer of the one between two of the other makes Double of the
// move before, and is no move of its own if that is at most two seats long.
func Moves(heard []Answer) []Move {
	const together = 2 * time.Second
	var out []Move
	for i := 1; i < len(heard); i++ {
		one, other := heard[i-1], heard[i]
		if one.MAC == other.MAC {
			continue
		}
		if n := len(out) - 1; n >= 0 && other.MAC == out[n].From && other.At.Sub(out[n].First) < together {
			out[n].Double = max(out[n].Double, other.At.Sub(out[n].First))
			continue
		}
		if n := len(out) - 1; n >= 0 && one.MAC == out[n].From && other.MAC == out[n].To {
			continue // as it was before the double answer
		}
		out = append(out, Move{From: one.MAC, To: other.MAC, Last: one.At, First: other.At})
	}
	return out
}
