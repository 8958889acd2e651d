package daemon

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// patience is a transport to the API server that waits for a server that is
// away instead of failing.
//
// client-go's watches, queues and elections each back off by themselves when a
// request fails, up to half a minute: after an outage of a minute they would
// notice the server's return that much later, each at another time. Here the
// first request that finds nobody shuts a gate, one goroutine's request a time
// looks whether the server is ready again, and all that wait go on at once when
// it is. So the cost of an outage is one small request per node and second, and
// everything works again within a second of the server's return.
//
// Requests that reached the server are passed through with whatever it said;
// only those that never got a connection wait, so nothing is ever sent twice.
type patience struct {
	done   <-chan struct{} // the end of the process
	next   http.RoundTripper
	server string // the base URL, to ask /readyz
	pause  time.Duration

	mu   sync.Mutex
	gate chan struct{} // not nil while the server is away; closed when it is back
}

// probePause is about how long to wait between two looks for a server that is
// away. 5,000 nodes make 10,000 attempts a second, of which each is refused by a
// kernel, not served. Half as long it is for one that answers already, which is
// for some seconds before it is ready.
const probePause = 500 * time.Millisecond

// settling is how long a server that answers, but says that it is not ready, is
// waited for: one that never calls itself ready may still serve us.
const settling = 10 * time.Second

func newPatience(ctx context.Context, server string, next http.RoundTripper) *patience {
	return &patience{done: ctx.Done(), next: next, server: server, pause: probePause}
}

// RoundTrip implements http.RoundTripper. It ends with the context of the
// request at the latest.
func (p *patience) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		if err := p.wait(req.Context()); err != nil {
			return nil, err
		}
		resp, err := p.next.RoundTrip(req)
		if err == nil || !neverConnected(err) {
			return resp, err
		}
		p.shut()
		if req.Body != nil && req.Body != http.NoBody {
			if req.GetBody == nil {
				return nil, err
			}
			body, bodyErr := req.GetBody()
			if bodyErr != nil {
				return nil, err
			}
			req = req.Clone(req.Context())
			req.Body = body
		}
	}
}

func neverConnected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// wait returns when the gate is open.
func (p *patience) wait(ctx context.Context) error {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shut shuts the gate, and sees to it that somebody opens it again.
func (p *patience) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		p.gate = make(chan struct{})
		go p.lookOut(p.gate)
	}
}

// lookOut opens the gate when the server is ready, when it has answered for long
// enough without being it, or when the process ends.
func (p *patience) lookOut(gate chan struct{}) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gate = nil
		close(gate)
	}()
	var answeredSince time.Time
	for pause := p.pause; ; {
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-p.done:
			return
		}
		answered, ready := p.look()
		if !answered {
			pause, answeredSince = p.pause, time.Time{}
			continue
		}
		pause = p.pause / 2
		if answeredSince.IsZero() {
			answeredSince = time.Now()
		}
		if ready || time.Since(answeredSince) > settling {
			return
		}
	}
}

func (p *patience) look() (answered, ready bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.server+"/readyz", http.NoBody)
	if err != nil {
		return true, true
	}
	resp, err := p.next.RoundTrip(req)
	if err != nil {
		return false, false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	// A server that keeps strangers out of /readyz has none to say "not yet" with.
	return true, resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}
