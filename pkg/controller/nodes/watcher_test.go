package nodes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
)

// cluster is a cluster that the Watcher hears of: it is Peers, Endpoints and
// Recorder, in a bubble of synctest.
type cluster struct {
	*testing.T
	client.WithWatch
	watcher *Watcher
	stop    func()

	mu    sync.Mutex
	all   bool
	fell  map[string]time.Time // when a node fell silent
	heard map[string]bool      // by this node
	alive map[string]bool      // for the others
	asked map[string]int       // how often others were asked of a node
	reads int
	dead  map[string]string
	told  []string
}

func inBubble(t *testing.T, mode evidence.Mode, nodes int, test func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			T: t, fell: map[string]time.Time{}, heard: map[string]bool{}, alive: map[string]bool{}, asked: map[string]int{},
		}
		c.WithWatch = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme.Scheme).Build(), interceptor.Funcs{
			Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				c.mu.Lock()
				c.reads++
				c.mu.Unlock()
				return w.Get(ctx, key, o, opts...)
			},
		})
		for i := range nodes - 1 {
			c.heard[fmt.Sprint("n", i)] = true
		}
		w, err := New(Options{
			Leases: c, Peers: c, Endpoints: c, Mode: mode, Recorder: c,
			Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.watcher = w
		c.stop = func() {}
		test(c)
		c.stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.all {
			t.Error("all nodes are still probed after the term")
		}
	})
}

// run runs the watcher until stop.
func (c *cluster) run() {
	ctx, cancel := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	c.watcher.Start(ctx)
	wg.Go(func() {
		if err := c.watcher.Run(ctx); err != nil {
			c.Error(err)
		}
	})
	c.stop = func() { cancel(); wg.Wait() }
}

func (c *cluster) ProbeAll(all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = all
}

func (c *cluster) Opinions() map[string]evidence.Opinion {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]evidence.Opinion{}
	for name, heard := range c.heard {
		switch fell, silent := c.fell[name]; {
		case !heard:
			out[name] = evidence.Opinion{}
		case silent:
			out[name] = evidence.Opinion{State: evidence.Silent, Silence: time.Since(fell)}
		default:
			out[name] = evidence.Opinion{State: evidence.Alive}
		}
	}
	return out
}

func (c *cluster) About(_ context.Context, node string) []evidence.Opinion {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[node]++
	fell, silent := c.fell[node]
	if !silent || c.alive[node] {
		return []evidence.Opinion{{State: evidence.Alive}, {}}
	}
	o := evidence.Opinion{State: evidence.Silent, Silence: time.Since(fell)}
	return []evidence.Opinion{o, o, {}}
}

func (c *cluster) Vouch(node string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[node] = true
}

func (c *cluster) SetDead(nodes map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = nodes
}

func (c *cluster) Eventf(o runtime.Object, eventType, reason, message string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := o.(*corev1.ObjectReference)
	c.told = append(c.told, fmt.Sprintf("%s %s: %s %s: ", ref.Kind, ref.Name, eventType, reason)+fmt.Sprintf(message, args...))
}

// fall has nodes fall silent now, with Leases that were renewed 5 s ago.
func (c *cluster) fall(names ...string) {
	c.Helper()
	c.mu.Lock()
	for _, name := range names {
		c.fell[name] = time.Now()
	}
	c.mu.Unlock()
	for _, name := range names {
		c.renew(name, time.Now().Add(-5*time.Second))
	}
}

func (c *cluster) back(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fell, name)
}

func (c *cluster) renew(name string, at time.Time) {
	c.Helper()
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: name}}
	l.Spec.RenewTime, l.Spec.LeaseDurationSeconds = new(metav1.NewMicroTime(at)), new(int32(40))
	err := c.Create(c.Context(), l)
	if apierrors.IsAlreadyExists(err) {
		patch := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, at.UTC().Format(metav1.RFC3339Micro))
		err = c.Patch(c.Context(), l, client.RawPatch(types.MergePatchType, []byte(patch)))
	}
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) wantDead(when string, want ...string) {
	c.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := slices.Sorted(maps.Keys(c.dead)); !slices.Equal(got, want) {
		c.Errorf("%s: dead are %v, want %v", when, got, want)
	}
}

func TestDeadAndBack(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		time.Sleep(10 * time.Second)
		c.fall("n2")
		time.Sleep(2900 * time.Millisecond)
		c.wantDead("silent for 2.9 s")
		time.Sleep(700 * time.Millisecond)
		c.wantDead("silent for 3.6 s", "n2")
		c.back("n2")
		time.Sleep(600 * time.Millisecond)
		c.wantDead("back")
		want := []string{
			"Node n2: Warning EndpointsRemoved: Node is dead, its endpoints are taken out of all Services: silent for 3 s, Lease 8 s old",
			"Node n2: Normal EndpointsRestored: Endpoints of the node are put back as their pods are: the node gives signs of life",
		}
		if diff := cmp.Diff(want, c.told); diff != "" {
			t.Errorf("Events (-want +got):\n%s", diff)
		}
	})
}

func TestConservativeWaitsForTheLease(t *testing.T) {
	inBubble(t, evidence.Conservative, 6, func(c *cluster) {
		c.run()
		c.fall("n2") // renewed 5 s ago
		time.Sleep(14900 * time.Millisecond)
		c.wantDead("the Lease is 19.9 s old")
		time.Sleep(700 * time.Millisecond)
		c.wantDead("the Lease is 20.6 s old", "n2")
		c.renew("n2", time.Now())
		time.Sleep(600 * time.Millisecond)
		c.wantDead("the Lease is renewed")
	})
}

func TestNobodyIsAskedOfTheLiving(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		if c.reads > 0 || len(c.asked) > 0 {
			t.Errorf("in an hour without silence, %d Leases were read and peers asked %v", c.reads, c.asked)
		}
	})
}

// TestManyAreKept: nobody is asked either, as it is this node that is cut off.
func TestManyAreKept(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		c.fall("n0", "n1", "n2")
		time.Sleep(time.Minute)
		c.wantDead("half of the nodes are silent")
		if c.reads > 0 {
			t.Errorf("%d Leases were read", c.reads)
		}
		c.back("n0")
		time.Sleep(600 * time.Millisecond)
		c.wantDead("a third is", "n1", "n2")
		c.fall("n3")
		time.Sleep(600 * time.Millisecond)
		c.wantDead("half of them again")
	})
}

func TestContradiction(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		c.alive["n1"] = true
		c.fall("n1", "n2")
		time.Sleep(2 * time.Second)
		c.renew("n2", time.Now())
		time.Sleep(20 * time.Second)
		c.wantDead("a peer hears the one, and the Lease of the other was renewed")
	})
}

// TestDeadForLongIsCheap holds that a node which stays dead is not asked about
// twice a second for ever.
func TestDeadForLongIsCheap(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		c.fall("n2")
		time.Sleep(2 * time.Minute)
		c.mu.Lock()
		before := c.reads
		c.mu.Unlock()
		time.Sleep(time.Hour)
		c.wantDead("after an hour", "n2")
		if perMinute := (c.reads - before) / 60; perMinute > 12 {
			t.Errorf("%d reads of its Lease a minute", perMinute)
		}
	})
}

// TestDeadBeforeTheTerm: a new leader knows of a node that it never heard, before
// it publishes anything.
func TestDeadBeforeTheTerm(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.heard["n2"], c.heard["n3"] = false, false
		c.fall("n2")
		time.Sleep(5 * time.Second)
		c.watcher.Start(c.Context())
		c.wantDead("when Start returns", "n2")
		if c.heard["n3"] {
			t.Error("n3, which nobody finds silent, is vouched for")
		}
		c.ProbeAll(false)
	})
}

// TestUnknownNodesAreAskedAboutInTurn: where a firewall drops the port, all nodes
// are unknown, for ever.
func TestUnknownNodesAreAskedAboutInTurn(t *testing.T) {
	inBubble(t, evidence.Fast, 201, func(c *cluster) {
		for name := range c.heard {
			c.heard[name] = false
		}
		c.run()
		time.Sleep(25*pause + pause/2)
		c.stop()
		total, fewest := 0, 1000
		for i := range 200 {
			n := c.asked[fmt.Sprint("n", i)]
			total, fewest = total+n, min(fewest, n)
		}
		if want := mostLooks + 25*mostAskedAbout; total != want || fewest == 0 {
			t.Errorf("asked %d times, want %d; of some %d times", total, want, fewest)
		}
	})
}

func TestLeaseThatCannotBeRead(t *testing.T) {
	inBubble(t, evidence.Fast, 6, func(c *cluster) {
		c.run()
		c.fall("n2")
		if err := c.Delete(c.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: "n2"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.wantDead("there is no Lease")
	})
}
