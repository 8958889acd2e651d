package endpoints

import (
	"sync"
	"time"
)

// longestBatch is the longest time for which load alone makes an addition wait.
const longestBatch = time.Second

// pace says how long an addition should wait for others to share its write. An
// idle controller makes none wait. Its measure of load is the writes themselves:
// how long they take, and how many are under way; so it follows the server, be
// it fast or slow, and needs no setting. It is safe for concurrent use.
type pace struct {
	// floor is the least wait.
	floor time.Duration

	mu       sync.Mutex
	inFlight int
	latency  time.Duration // of one write, the moving mean
	services map[key]*span
}

// span is when the writes of a Service were made last.
type span struct {
	began   time.Time
	took    time.Duration
	writing bool
}

func newPace(floor time.Duration) *pace { return &pace{floor: floor, services: map[key]*span{}} }

// wait returns how long an addition to k that is known since now should wait: as
// long as the writes under way would take one after the other, if there is more
// than one, and until as much time has passed since the last write of k as that
// took, so that a Service which changes all the time is written half of it.
func (p *pace) wait(k key, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	load := p.latency * time.Duration(max(0, p.inFlight-1))
	if s := p.services[k]; s != nil {
		load = max(load, s.began.Add(2*s.took).Sub(now))
	}
	return max(p.floor, min(load, longestBatch), 0)
}

// begin notes that the writes of k begin, and end that they are done.
func (p *pace) begin(k key, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.services[k]
	if s == nil {
		s = &span{took: p.latency}
		p.services[k] = s
	}
	s.began, s.writing = now, true
}

func (p *pace) end(k key, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.services[k]; s != nil {
		s.took, s.writing = now.Sub(s.began), false
	}
}

// started notes a request, and ended how long it took.
func (p *pace) started() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight++
}

func (p *pace) ended(took time.Duration) {
	const weight = 8
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if p.latency == 0 {
		p.latency = took
		return
	}
	p.latency += (took - p.latency) / weight
}

// prune forgets the Services of which the last write makes nothing wait any more.
func (p *pace) prune(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, s := range p.services {
		if !s.writing && now.After(s.began.Add(2*s.took)) {
			delete(p.services, k)
		}
	}
}
