package forward

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAttempts bounds how often a question is sent, to whomever. As each further
	// attempt waits longer, few questions get there.
	maxAttempts = 12
	// attemptsInSilence is the same while no upstream has answered anything lately.
	attemptsInSilence = 4
	// maxLingering bounds the attempts that are waited for only to learn whether the
	// upstream is alive, their question being answered already.
	maxLingering = 500
)

// attempts are the questions that are out.
type attempts struct {
	timeout time.Duration
	out     atomic.Int64
}

// ask finds an answer to k and puts it into the cache.
func (f *Forwarder) ask(k key) (*Answer, error) {
	ctx, cancel := context.WithTimeout(f.background.ctx, totalTimeout)
	defer cancel()
	a, err := f.askAll(ctx, k)
	switch {
	case err == nil && a.kind != failure:
		f.cache.put(a)
		return a, nil
	case errors.Is(err, ErrNoUpstream), f.background.ctx.Err() != nil:
		return nil, err
	case err != nil:
		// That is remembered as a failure, too (RFC 9520).
		nobody, failed := newFailure(k, time.Now())
		if failed == nil {
			f.cache.fail(nobody, time.Now())
		}
		return nil, err
	}
	f.cache.fail(a, time.Now())
	return a, nil
}

// hunt is the search for an answer to one question.
type hunt struct {
	f     *Forwarder
	k     key
	order []*upstream
	limit int
	// sent is how often the question went out, turn whose turn it is, out how many
	// results are to come.
	sent, turn, out int
	results         chan result
	useless         map[*upstream]int // how often it did not know, or could not be asked
	refusal         *Answer
	errs            []error

	// The attempts may outlive the hunt: whether an upstream answers after all says
	// how it is. The last to leave ends ctx.
	ctx     context.Context
	cancel  context.CancelFunc
	present atomic.Int64
}

type result struct {
	u      *upstream
	answer *Answer
	err    error
	again  bool // u had been asked before and was silent
}

// askAll asks one upstream, and the next one as soon as the first is slower than
// it mostly is or of no use, until one has an answer. What an upstream says that
// does not know is returned only if nobody knew better.
func (f *Forwarder) askAll(ctx context.Context, k key) (*Answer, error) {
	order, silent := f.candidates(k)
	if len(order) == 0 {
		return nil, ErrNoUpstream
	}
	h := &hunt{f: f, k: k, order: order, limit: maxAttempts, results: make(chan result, maxAttempts), useless: map[*upstream]int{}}
	h.ctx, h.cancel = context.WithCancel(f.background.ctx)
	h.present.Store(1)
	defer h.leave()
	if silent {
		h.limit = min(max(attemptsInSilence, len(order)), maxAttempts)
		f.metrics.broken.Inc()
	}
	return h.run(ctx)
}

func (h *hunt) leave() {
	if h.present.Add(-1) == 0 || h.f.attempts.out.Load() > maxLingering {
		h.cancel()
	}
}

func (h *hunt) run(ctx context.Context) (*Answer, error) {
	h.next()
	timer := time.NewTimer(h.pause())
	defer timer.Stop()
	for h.out > 0 {
		select {
		case r := <-h.results:
			h.out--
			if r.err == nil && r.again {
				r.u.lost()
			}
			if r.err == nil && r.answer.kind != failure {
				return r.answer, nil
			}
			h.note(r)
		case <-timer.C:
			h.late()
		case <-ctx.Done():
			return h.nobody(ctx.Err())
		}
		if h.next() {
			timer.Reset(h.pause())
		}
	}
	return h.nobody(nil)
}

// note remembers an upstream that was of no use. One that is silent may be yet: it
// is datagrams that get lost.
func (h *hunt) note(r result) {
	if !errors.Is(r.err, os.ErrDeadlineExceeded) {
		h.useless[r.u]++
	}
	if r.err != nil {
		h.errs = append(h.errs, fmt.Errorf("upstream %s: %w", r.u.addr, r.err))
		return
	}
	h.refusal = r.answer
}

// late notes that the one asked last keeps its client waiting.
func (h *hunt) late() {
	if h.turn == 0 || h.turn >= len(h.order) {
		return // there is nobody else, or he was asked before
	}
	if u := h.order[h.turn-1]; u.late(time.Now()) {
		h.f.wentDown(h.k, u)
	}
}

// nobody is the end of a hunt without an answer.
func (h *hunt) nobody(err error) (*Answer, error) {
	if h.refusal != nil {
		return h.refusal, nil
	}
	return nil, errors.Join(append(h.errs, err)...)
}

// next asks the next upstream, if there is one that can still be of use: each may
// be of none once, and a lone one twice.
func (h *hunt) next() bool {
	tries := 1
	if len(h.order) == 1 {
		tries = 2
	}
	if h.sent == h.limit {
		return false
	}
	for range h.order {
		u := h.order[h.turn%len(h.order)]
		h.turn++
		if h.useless[u] >= tries {
			continue
		}
		h.present.Add(1)
		again := h.turn > len(h.order)
		if !h.f.background.start(func() {
			defer h.leave()
			r := h.f.attempt(h.ctx, u, h.k)
			r.again = again
			h.results <- r
		}) {
			h.leave()
			return false
		}
		h.sent++
		h.out++
		return true
	}
	return false
}

// pause is how long to wait for those that were asked before the next is.
func (h *hunt) pause() time.Duration {
	hedge, resend := h.order[max(h.turn-1, 0)%len(h.order)].patience()
	if h.turn < len(h.order) {
		return hedge
	}
	for range h.turn/len(h.order) - 1 {
		resend += resend / 2
	}
	return resend / time.Duration(len(h.order))
}

// attempt asks u once.
func (f *Forwarder) attempt(ctx context.Context, u *upstream, k key) result {
	f.attempts.out.Add(1)
	defer f.attempts.out.Add(-1)
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.attempts.timeout)
	defer cancel()
	m, err := f.exchange(ctx, u, k)
	now := time.Now()
	switch {
	case err == nil:
		u.succeeded(now.Sub(start), now)
		u.tell(f.log, false)
		f.metrics.answered(u.addr, m.Rcode, now.Sub(start))
	case errors.Is(ctx.Err(), context.Canceled):
		return result{u: u, err: err} // nobody waited; that is not the upstream's fault
	default:
		f.metrics.failed(u.addr)
		if u.failed(now) {
			f.wentDown(k, u)
		}
		return result{u: u, err: err}
	}
	a, err := answerOf(m, k, now)
	if err != nil {
		f.metrics.drops.Inc()
	}
	return result{u: u, answer: a, err: err}
}

// wentDown says so, and has it found out whether u leads back here: that is what
// it looks like, too.
func (f *Forwarder) wentDown(k key, u *upstream) {
	u.tell(f.log, true)
	f.suspect(k, u)
}

func answerOf(m *dns.Msg, k key, now time.Time) (*Answer, error) {
	kept, err := sift(m, k)
	if err != nil {
		return nil, err
	}
	return newAnswer(k, kept, now)
}

// candidates returns the upstreams for k in the order to ask them: those that
// answered lately first. silent tells that none has, for long.
func (f *Forwarder) candidates(k key) (order []*upstream, silent bool) {
	now := time.Now()
	var up, down []*upstream
	g := f.groupOf(k.text())
	for _, addr := range g.addrs(now) {
		u := f.upstreams.get(addr)
		switch {
		case f.isSelf(addr):
			u.warnOfSelf(f.log)
		case g.leadsBack(addr):
		case u.isDown(now, f.attempts.timeout):
			down = append(down, u)
		default:
			up = append(up, u)
		}
	}
	silent = len(up) == 0 && !slices.ContainsFunc(down, func(u *upstream) bool { return !u.isSilent(now) })
	return append(up, down...), silent
}
