package term

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var errDown = errors.New("the server is down")

// bench is a fake server with one Lease, in a bubble of synctest: so time costs
// nothing, and a goroutine that is left behind fails the test.
type bench struct {
	*testing.T
	ctx    context.Context // is done when the test is, failed or not
	client *fake.Clientset
	wg     sync.WaitGroup

	mu   sync.Mutex
	down func(identity string, a clienttesting.Action) bool
}

func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{T: t, ctx: ctx, client: fake.NewClientset()}
		defer b.wg.Wait()
		defer cancel()
		test(b)
	})
}

func (b *bench) setDown(down func(string, clienttesting.Action) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// candidate returns one that sees the server through a fault of its own.
func (b *bench) candidate(identity string, change ...func(*Options)) *Candidate {
	client := fake.NewClientset()
	client.PrependReactor("*", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		b.mu.Lock()
		down := b.down != nil && b.down(identity, a)
		b.mu.Unlock()
		if down {
			return true, nil, errDown
		}
		o, err := b.client.Invokes(a, &coordinationv1.Lease{})
		return true, o, err
	})
	client.PrependWatchReactor("leases", func(a clienttesting.Action) (bool, watch.Interface, error) {
		b.mu.Lock()
		down := b.down != nil && b.down(identity, a)
		b.mu.Unlock()
		if down {
			return true, nil, errDown
		}
		w, err := b.client.InvokesWatch(a)
		return true, w, err
	})
	o := options(client, identity)
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func options(client *fake.Clientset, identity string) Options {
	return Options{
		Client: client, Identity: identity, LeaseName: "signpost", LeaseNamespace: "kube-system",
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Candidates: 3, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}
}

func (b *bench) run(ctx context.Context, c *Candidate, work func(context.Context) error) {
	b.wg.Go(func() {
		if err := c.Run(ctx, work); err != nil {
			b.Error(err)
		}
	})
}

func (b *bench) holder() string {
	b.Helper()
	l, err := b.client.CoordinationV1().Leases("kube-system").Get(b.Context(), "signpost", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// untilDone is work that takes some time to drain.
func untilDone(drain time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(drain)
		return ctx.Err()
	}
}

func TestLeadsAndGivesTheLeaseBackAfterTheWork(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		c := b.candidate("a")
		var ended atomic.Bool
		b.run(ctx, c, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			if h := b.holder(); h != "a" {
				b.Errorf("the Lease is held by %q before the work has ended", h)
			}
			ended.Store(true)
			return nil
		})
		time.Sleep(time.Minute)
		if !c.Leading() || b.holder() != "a" {
			b.Errorf("leading %v, holder %q", c.Leading(), b.holder())
		}
		cancel()
		synctest.Wait()
		if c.Leading() {
			b.Error("leads after it was stopped")
		}
		b.wg.Wait()
		if !ended.Load() || b.holder() != "" {
			b.Errorf("work ended %v, holder %q", ended.Load(), b.holder())
		}
	})
}

func TestAnErrorEndsTheTermOnly(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		var began []time.Time
		var running atomic.Int32
		b.run(ctx, b.candidate("a"), func(ctx context.Context) error {
			if running.Add(1) > 1 {
				b.Error("two terms at once")
			}
			defer running.Add(-1)
			began = append(began, time.Now())
			if len(began) < 5 {
				time.Sleep(time.Second)
				return errors.New("no luck")
			}
			return untilDone(0)(ctx)
		})
		time.Sleep(5 * time.Minute)
		cancel()
		b.wg.Wait()
		if len(began) != 5 {
			b.Fatalf("%d terms, want 5", len(began))
		}
		for i := 1; i < len(began); i++ {
			wait := began[i].Sub(began[i-1]) - time.Second
			if least := time.Duration(2<<(i-1)) * time.Second; wait < least || wait > least+5*time.Second {
				b.Errorf("term %d began %v after the one before it had failed, want some %v", i, wait, least)
			}
		}
	})
}

// TestLosingTheServerEndsTheTerm: the work is told in time, this candidate does
// not begin anew before it has drained, and leads again when the server is back.
func TestLosingTheServerEndsTheTerm(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		c := b.candidate("a")
		var running, terms atomic.Int32
		b.run(ctx, c, func(ctx context.Context) error {
			if running.Add(1) > 1 {
				b.Error("two terms at once")
			}
			defer running.Add(-1)
			terms.Add(1)
			return untilDone(40 * time.Second)(ctx)
		})
		time.Sleep(30 * time.Second)
		b.setDown(func(string, clienttesting.Action) bool { return true })
		time.Sleep(15 * time.Second)
		if c.Leading() {
			b.Error("still leads when the Lease has expired")
		}
		time.Sleep(time.Minute)
		b.setDown(nil)
		time.Sleep(20 * time.Second)
		if !c.Leading() || terms.Load() != 2 {
			b.Errorf("leading %v, %d terms", c.Leading(), terms.Load())
		}
		cancel()
	})
}

// TestSlowDrainIsNotHurried: the term is lost, and the work takes its time. The
// Lease is not given back, for somebody to work beside it, before it is done.
func TestSlowDrainIsNotHurried(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		var draining, hurried atomic.Bool
		b.run(ctx, b.candidate("a"), func(ctx context.Context) error {
			<-ctx.Done()
			draining.Store(true)
			time.Sleep(5 * time.Second)
			hurried.Store(b.holder() == "")
			draining.Store(false)
			return nil
		})
		time.Sleep(30 * time.Second)
		// Renewals fail; to give the Lease back would not.
		b.setDown(func(_ string, a clienttesting.Action) bool {
			update, ok := a.(clienttesting.UpdateAction)
			if !ok {
				return false
			}
			l, ok := update.GetObject().(*coordinationv1.Lease)
			return ok && *l.Spec.HolderIdentity != ""
		})
		time.Sleep(13 * time.Second)
		if !draining.Load() {
			b.Fatal("the term has not ended")
		}
		time.Sleep(10 * time.Second)
		if draining.Load() || hurried.Load() {
			b.Errorf("drains still: %v; the Lease was given back before: %v", draining.Load(), hurried.Load())
		}
		if h := b.holder(); h != "" {
			b.Errorf("the Lease is held by %q after the work has ended", h)
		}
		b.setDown(nil)
		cancel()
	})
}

func TestOneTakesOverFromAnother(t *testing.T) {
	for _, tt := range []struct {
		name   string
		crash  bool
		drain  time.Duration
		within time.Duration
	}{
		{"stopped", false, 0, time.Second},
		{"stopped, and slow to drain", false, time.Minute, 61 * time.Second},
		{"crashed", true, 0, 16 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				ctx, cancel := context.WithCancel(b.ctx)
				ctxA, cancelA := context.WithCancel(ctx)
				var working atomic.Int32
				work := func(ctx context.Context) error {
					if working.Add(1) > 1 {
						b.Error("two leaders at once")
					}
					defer working.Add(-1)
					return untilDone(tt.drain)(ctx)
				}
				one, two := b.candidate("a"), b.candidate("b")
				b.run(ctxA, one, work)
				synctest.Wait()
				b.run(ctx, two, work)
				time.Sleep(time.Minute)
				if !one.Leading() || two.Leading() {
					b.Fatalf("leading: %v, %v", one.Leading(), two.Leading())
				}
				if tt.crash {
					b.setDown(func(identity string, _ clienttesting.Action) bool { return identity == "a" })
				} else {
					cancelA()
				}
				began := time.Now()
				for !two.Leading() && time.Since(began) < 2*time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(began); took > tt.within {
					b.Errorf("took over after %v", took)
				}
				// The first comes back: it must not touch the Lease of the second.
				b.setDown(nil)
				time.Sleep(time.Minute)
				if b.holder() != "b" || !two.Leading() || one.Leading() {
					b.Errorf("holder %q, leading %v, %v", b.holder(), one.Leading(), two.Leading())
				}
				cancelA()
				cancel()
			})
		})
	}
}

// TestGivingBackWhatIsNotOurs: client-go would overwrite the Lease of a leader
// that came in between.
func TestGivingBackWhatIsNotOurs(t *testing.T) {
	inBubble(t, func(b *bench) {
		c := b.candidate("a")
		drained := make(chan struct{})
		close(drained)
		l := c.lock(drained, func() {}, func() {})
		other := "b"
		_, err := b.client.CoordinationV1().Leases("kube-system").Create(b.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "signpost", Namespace: "kube-system"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &other},
		}, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		record, _, err := l.Get(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		record.HolderIdentity = ""
		if err := l.Update(b.Context(), *record); err == nil || b.holder() != "b" {
			b.Errorf("error %v, holder %q", err, b.holder())
		}
	})
}

// TestFiftyTerms: the bubble fails the test if a goroutine is left.
func TestFiftyTerms(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		var terms atomic.Int32
		b.run(ctx, b.candidate("a"), func(context.Context) error {
			if terms.Add(1) == 50 {
				cancel()
			}
			return errors.New("no luck")
		})
		b.wg.Wait()
		if n := terms.Load(); n != 50 {
			b.Errorf("%d terms", n)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"good", func(*Options) {}, ""},
		{"no candidates", func(o *Options) { o.Candidates = 0 }, "Candidates"},
		{"no client", func(o *Options) { o.Client = nil }, "Client"},
		{"no name", func(o *Options) { o.LeaseName = "" }, "LeaseName"},
		{"no identity", func(o *Options) { o.Identity = "" }, "dentity"},
		{"deadline beyond the lease", func(o *Options) { o.RenewDeadline = o.LeaseDuration }, "enewDeadline"},
		{"tries too rare", func(o *Options) { o.RetryPeriod = o.RenewDeadline }, "retryPeriod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(fake.NewClientset(), "a")
			tt.change(&o)
			_, err := New(o)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

// TestACandidateStaysWithItsRequest as long as there is no hurry, see bounded.
func TestACandidateStaysWithItsRequest(t *testing.T) {
	l := lock{timeout: 5 * time.Second}
	renewing, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, tt := range []struct {
		name        string
		ctx         context.Context
		least, most time.Duration
	}{
		{"campaign", t.Context(), 30 * time.Second, campaignTimeout},
		{"renewal", renewing, 0, 5 * time.Second},
	} {
		ctx, cancel := l.bounded(tt.ctx)
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left < tt.least || left > tt.most {
			t.Errorf("%s: a request may take %s, want %s to %s", tt.name, left, tt.least, tt.most)
		}
		cancel()
	}
}
