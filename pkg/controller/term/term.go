package term

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Options are what a Candidate is made of.
type Options struct {
	Client kubernetes.Interface
	// Identity is the candidate's name in the Lease; no two may have the same.
	Identity                  string
	LeaseName, LeaseNamespace string
	// LeaseDuration is how long others wait before they take a Lease that is not
	// renewed; it is longer than RenewDeadline, after which the holder itself gives
	// up, which is longer than 1.2 times RetryPeriod, the time between two tries.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// Candidates is how many try to take the Lease at once when it gets free, at
	// least 1; should none of them, more do.
	Candidates int
	// Peers returns the identities of all candidates as far as they are known; nil,
	// or a list without Identity, if they are not. It must be quick.
	Peers func() []string
	// Standby is told when this candidate becomes the next in line, and when it no
	// longer is; not when it leads, as then the work begins. It may be nil, and is
	// called from Run only.
	Standby    func(next bool)
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Candidate campaigns for a Lease.
//
// It watches the Lease, and asks for it only when it is free or has expired, and
// then only if nobody before it in line takes it. So a thousand of them cost a
// thousand watches, and no requests.
//
// The order of things at the end of a term is the point of it: the work has
// returned before the Lease is given back, and before this candidate campaigns
// again. When the Lease is lost instead, the work is told at once, but may still
// be draining when somebody else begins, if it takes longer than LeaseDuration
// minus RenewDeadline; so what it writes must carry preconditions.
type Candidate struct {
	options Options
	log     *slog.Logger
	// serving is the context of the term that this process serves, or nil.
	serving atomic.Pointer[context.Context]
	terms   *prometheus.CounterVec
	lookout *lookout
	// next is what Standby was told last.
	next bool
}

// maxBackoff is the longest wait after a term that failed; one that lasted as
// long makes the waits short again.
const maxBackoff = time.Minute

// New returns a Candidate, or an error that names what is wrong with o.
func New(o Options) (*Candidate, error) {
	c := &Candidate{
		options: o,
		log:     o.Log,
		terms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_leader_terms_total", Help: "Terms that have ended, by cause: stopped, lost, or failed.",
		}, []string{"end"}),
	}
	if o.Client == nil || o.Registerer == nil || o.Log == nil || o.LeaseName == "" || o.LeaseNamespace == "" {
		return nil, errors.New("leader election: Client, Registerer, Log, LeaseName and LeaseNamespace are needed")
	}
	if o.Candidates < 1 {
		return nil, fmt.Errorf("leader election: Candidates is %d", o.Candidates)
	}
	if _, err := c.elector(c.lock(nil, nil, nil), func(context.Context) {}); err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	var err error
	if c.lookout, err = newLookout(o.Client, o.LeaseNamespace, o.LeaseName); err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	leading := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signpost_leader", Help: "1 while this process holds the Lease of the controllers, else 0.",
	}, c.gauge)
	if err := errors.Join(o.Registerer.Register(leading), o.Registerer.Register(c.terms)); err != nil {
		return nil, fmt.Errorf("leader election: register metrics: %w", err)
	}
	return c, nil
}

// Leading says whether this process holds the Lease and does the work. It may be
// called at any time.
func (c *Candidate) Leading() bool {
	term := c.serving.Load()
	return term != nil && (*term).Err() == nil
}

func (c *Candidate) gauge() float64 {
	if c.Leading() {
		return 1
	}
	return 0
}

// Run campaigns until ctx is done, and calls work whenever it has won, with a
// context that ends with the term. It returns nil once ctx is done, work has
// returned and the Lease is given back. It must be called once.
//
// An error of work, or its return before its context is done, ends the term; the
// next campaign begins after a back-off that others may use to take over.
func (c *Candidate) Run(ctx context.Context, work func(ctx context.Context) error) error {
	watchCtx, stopWatch := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stopWatch()
	watch.Go(func() { c.lookout.run(watchCtx) })
	defer c.standby(false)
	backoff := c.options.RetryPeriod
	for c.await(ctx) {
		began := time.Now()
		seen := c.lookout.look().changed
		end, err := c.campaign(ctx, work)
		switch {
		case err != nil:
			return err
		case end == notBegun:
			// The watch may be behind what the campaign has found.
			pause(ctx, c.options.RetryPeriod, seen)
		case end == failed:
			if time.Since(began) > maxBackoff {
				backoff = c.options.RetryPeriod
			}
			pause(ctx, backoff, nil)
			backoff = min(2*backoff, maxBackoff)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration, until <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-until:
	case <-time.After(d):
	}
}

// await waits until it is time to campaign, or returns false when ctx is done.
// A Lease that is held by this candidate's own name is that of the process before
// it, and taken up at once.
func (c *Candidate) await(ctx context.Context) bool {
	id := c.options.Identity
	for ctx.Err() == nil {
		s := c.lookout.look()
		if !s.known {
			pause(ctx, maxBackoff, c.lookout.synced.Done())
			continue
		}
		if s.holder == id {
			return true
		}
		p := placeOf(id, s.holder, s.transitions, c.peers())
		c.standby(p.known && p.rank == 0)
		wait := time.Until(s.free.Add(p.delay(c.options.Candidates)))
		if wait <= 0 {
			return true
		}
		pause(ctx, wait, s.changed)
	}
	return false
}

func (c *Candidate) peers() []string {
	if c.options.Peers == nil {
		return nil
	}
	return c.options.Peers()
}

func (c *Candidate) standby(next bool) {
	if next != c.next && c.options.Standby != nil {
		c.options.Standby(next)
	}
	c.next = next
}

// end is how a term ended.
type end string

const (
	notBegun end = ""
	stopped  end = "stopped"
	lost     end = "lost"
	failed   end = "failed"
)

// campaign campaigns once, and does the work if it wins.
func (c *Candidate) campaign(ctx context.Context, work func(context.Context) error) (end, error) {
	// The election outlives ctx until the work is done: its end gives the Lease back.
	electCtx, resign := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), logr.FromSlogHandler(c.log.Handler())))
	defer resign()
	held, lose := context.WithCancel(electCtx)
	defer lose()
	drained := make(chan struct{})
	l := c.lock(drained, lose, resign)
	won := make(chan struct{})
	elector, err := c.elector(l, func(context.Context) { close(won) })
	if err != nil {
		return notBegun, fmt.Errorf("leader election: %w", err)
	}
	over := make(chan struct{})
	go func() { // ends with electCtx; awaited below in every case
		defer close(over)
		defer lose()
		elector.Run(electCtx)
	}()
	how := notBegun
	select {
	case <-won:
		how = c.serve(ctx, held, work)
	case <-over:
	case <-ctx.Done():
	}
	close(drained)
	resign()
	<-over
	l.stop()
	return how, nil
}

// serve does the work of a term. held is done when the Lease is lost.
func (c *Candidate) serve(ctx, held context.Context, work func(context.Context) error) end {
	termCtx, cancel := context.WithCancel(held)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	c.serving.Store(&termCtx)
	defer c.serving.Store(nil)

	c.next = false // the work takes over from the standby
	began := time.Now()
	c.log.Info("term begins", "identity", c.options.Identity)
	err := work(termCtx)
	how := failed
	switch {
	case held.Err() != nil:
		how = lost
	case ctx.Err() != nil:
		how = stopped
	}
	level, attrs := slog.LevelInfo, []slog.Attr{slog.String("how", string(how)), slog.Duration("lasted", time.Since(began))}
	if err != nil && !errors.Is(err, context.Canceled) {
		level, attrs = slog.LevelError, append(attrs, slog.Any("error", err))
	}
	c.log.LogAttrs(ctx, level, "term ends", attrs...)
	c.terms.WithLabelValues(string(how)).Inc()
	return how
}

func (c *Candidate) elector(lock resourcelock.Interface, won func(context.Context)) (*leaderelection.LeaderElector, error) {
	return leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   c.options.LeaseDuration,
		RenewDeadline:   c.options.RenewDeadline,
		RetryPeriod:     c.options.RetryPeriod,
		ReleaseOnCancel: true,
		Name:            c.options.LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: won,
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != "" { // between two terms
					c.log.Info("the leader is known", "leader", identity)
				}
			},
		},
	})
}

func (c *Candidate) lock(drained <-chan struct{}, lose, yield func()) *lock {
	return &lock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.options.LeaseNamespace, Name: c.options.LeaseName},
			Client:     c.options.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.options.Identity},
		},
		timeout: c.options.RenewDeadline / 2,
		lose:    lose,
		limit:   min(c.options.RenewDeadline+c.options.RetryPeriod, c.options.LeaseDuration),
		drained: drained,
		yield:   yield,
		expired: func(r resourcelock.LeaderElectionRecord) bool { return c.lookout.expired(r) },
	}
}
