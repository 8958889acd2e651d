package forward

import (
	"net/netip"
	"sync"
)

// tickets bound the questions that wait for an answer. A client may have as many
// as are still free: one alone can take half of them, two a third each, and
// however many are greedy, something is left for the next.
type tickets struct {
	mu       sync.Mutex
	free     int
	byClient map[netip.Addr]int
}

func newTickets(n int) *tickets { return &tickets{free: n, byClient: map[netip.Addr]int{}} }

// take takes a ticket for client. If it returns nil, put must be called once.
func (t *tickets) take(client netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.free == 0:
		return ErrBusy
	case !client.IsValid():
	case t.byClient[client] >= t.free:
		return ErrClientBusy
	default:
		t.byClient[client]++
	}
	t.free--
	return nil
}

func (t *tickets) put(client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	if !client.IsValid() {
		return
	}
	if t.byClient[client]--; t.byClient[client] == 0 {
		delete(t.byClient, client)
	}
}
