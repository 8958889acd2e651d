package dns

import (
	"hash/maphash"
	"net/netip"
	"time"
)

const (
	// shareBurst is how much of a reader's time a client may use at once before it
	// has to wait for its share of what comes.
	shareBurst = 100 * time.Microsecond
	// leastShare is the part of a reader's time that a client has whoever else
	// asks, as its denominator.
	leastShare = 32
	// shareCells bounds the memory. A client has two of them, and of these counts
	// the one that others use less; which it has, changes after each shareWindow.
	shareCells  = 1024
	shareWindow = time.Second
)

// shares divides a reader's time among clients while there is not enough of it. As
// long as there is, or nobody else asks, a client has as much as it likes. It is
// for one goroutine.
//
// The kernel's buffer does not know clients: what one of them floods it with would
// crowd out the questions of all others. So when it fills, requests are read as
// fast as they come, and those of clients that have had their share are dropped
// unseen, which takes a small part of the time that it takes to answer them. Bursts
// that the buffer has room for are answered in whole.
type shares struct {
	seed  maphash.Seed
	begin time.Time
	cells [shareCells]shareCell
	// clients are those that have asked in this window, before those of the last.
	clients, before int
	// pressed is true while there is more to do than can be done.
	pressed bool
}

// shareCell has what a client has used, of which its share is forgiven as time
// goes by.
type shareCell struct {
	used time.Duration
	// at is when it asked last, since the beginning of the window; 0 for never.
	at time.Duration
}

// spent reports whether client, which asks at now, has to make way for others.
func (s *shares) spent(client netip.Addr, now time.Time) bool {
	if now.Sub(s.begin) >= shareWindow {
		*s = shares{seed: maphash.MakeSeed(), begin: now, before: s.clients, pressed: s.pressed}
	}
	at := now.Sub(s.begin) + 1
	one, other := s.cellsOf(client)
	if one.at == 0 || other.at == 0 {
		s.clients++
	}
	clients := max(s.clients, s.before)
	// Half of the time is for those who come, and for dropping.
	divisor := time.Duration(min(leastShare, 2*clients))
	used := min(one.forgive(at, divisor), other.forgive(at, divisor))
	return s.pressed && clients > 1 && used >= shareBurst
}

// forgive returns what is used after a share of the time until at was forgiven.
func (c *shareCell) forgive(at, divisor time.Duration) time.Duration {
	if c.at != 0 {
		c.used = max(0, c.used-(at-c.at)/divisor)
	}
	c.at = at
	return c.used
}

// use adds the time that an answer to client has taken, after spent.
func (s *shares) use(client netip.Addr, took time.Duration) {
	one, other := s.cellsOf(client)
	for _, c := range [...]*shareCell{one, other} {
		c.used = min(c.used+took, 2*shareBurst) // what was used while there was enough is no debt
	}
}

func (s *shares) cellsOf(client netip.Addr) (one, other *shareCell) {
	h := maphash.Comparable(s.seed, client)
	return &s.cells[h%shareCells], &s.cells[h/shareCells%shareCells]
}
