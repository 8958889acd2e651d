package readiness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/work"
)

const (
	// gatePatchers is how many pods are written to at once, gatesPerSecond and
	// gateBurst bound how many in a second: a kubelet writes to each as well.
	gatePatchers   = 16
	gatesPerSecond = 200
	gateBurst      = 400
	// firstAsk and lastAsk are the pauses between two questions to the nodes: the
	// longer nothing comes of it, the longer. askEach is the least for each node, so
	// that 5,000 of them are asked four times a second.
	firstAsk = 20 * time.Millisecond
	lastAsk  = 250 * time.Millisecond
	askEach  = 50 * time.Microsecond
	// patchAgain is when a gate is written again that no watch has shown.
	patchAgain = 5 * time.Second
)

// Watermarks asks nodes how far they are. It returns, by the name of the node, a
// resource version of EndpointSlices: what they said up to it, the node does. Nodes
// that do not answer soon are not in it. An answer may be late, but never too high.
type Watermarks interface {
	Ask(ctx context.Context, nodes map[string]netip.Addr) map[string]uint64
}

// Published knows where pods are published. It must be safe for concurrent use.
type Published interface {
	// Standing returns that of the pods that exist.
	Standing(pods []*corev1.Pod) map[types.UID]verdict.Standing
	// Alive says whether a node exists and is not taken to be dead.
	Alive(node string) bool
}

// GateOptions are what a Gate is made of. All are needed.
type GateOptions struct {
	// Client patches the status of pods.
	Client     client.Client
	Watermarks Watermarks
	// Nodes returns the nodes that run Signpost, and where to ask them.
	Nodes func() map[string]netip.Addr
	// Wanted says how many of a number of nodes, at least 1, have to send to a pod.
	Wanted func(nodes int) int
	// Timeout is how long a pod waits at most; positive.
	Timeout    time.Duration
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Gate opens the gate verdict.ProgrammedGate of pods, for one term. ObservePod and
// ForgetPod may be called at any time and from anywhere.
type Gate struct {
	options GateOptions
	terms   terms
	metrics *gateMetrics
	queue   workqueue.TypedRateLimitingInterface[types.UID]
	limit   *rate.Limiter
	// changed holds one element if there is something new to look at.
	changed chan struct{}

	mu   sync.Mutex
	pods map[types.UID]*gated
	// reached is how far each node is known to be. Rules stay, whatever becomes of
	// the daemon: so it never falls. It is forgotten when nobody waits.
	reached map[string]uint64
}

// gated is a pod whose gate is to be set, now or some time.
type gated struct {
	pod *corev1.Pod
	wait
	// set is what to write, nil while the pod waits.
	set *opening
	// written is when that was done.
	written time.Time
}

// NewGate returns a Gate for one Run.
func NewGate(o GateOptions) (*Gate, error) {
	if o.Client == nil || o.Watermarks == nil || o.Nodes == nil || o.Wanted == nil || o.Registerer == nil || o.Log == nil {
		return nil, errors.New("gate: Client, Watermarks, Nodes, Wanted, Registerer and Log are needed")
	}
	if o.Timeout <= 0 {
		return nil, fmt.Errorf("gate: Timeout is %v", o.Timeout)
	}
	m, err := newGateMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Gate{
		options: o,
		terms:   terms{wanted: o.Wanted, timeout: o.Timeout},
		metrics: m,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](50*time.Millisecond, 10*time.Second)),
		limit:   rate.NewLimiter(gatesPerSecond, gateBurst),
		changed: make(chan struct{}, 1),
		pods:    map[types.UID]*gated{},
		reached: map[string]uint64{},
	}, nil
}

// ObservePod takes in a pod that has the gate. It does not block.
func (g *Gate) ObservePod(pod *corev1.Pod) {
	g.mu.Lock()
	defer g.mu.Unlock()
	is := g.pods[pod.UID]
	switch {
	case verdict.Waits(pod) && verdict.GateIsShut(pod):
		if is == nil || is.set != nil && is.set.status != corev1.ConditionTrue {
			is = &gated{wait: wait{since: time.Now()}}
		}
	case verdict.Lapses(pod):
		is = &gated{set: lapsed()}
		g.queue.Add(pod.UID)
	case is == nil:
		return
	default:
		delete(g.pods, pod.UID)
		g.wake()
		return
	}
	is.pod = pod
	g.pods[pod.UID] = is
	g.wake()
}

// ForgetPod takes in that a pod is gone.
func (g *Gate) ForgetPod(pod *corev1.Pod) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pods, pod.UID)
	g.wake()
}

func (g *Gate) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// Run opens gates until ctx is done, and returns nil then. It must be called once.
func (g *Gate) Run(ctx context.Context, published Published) error {
	defer g.queue.ShutDown()
	defer g.metrics.waiting.Set(0)
	watch := func(ctx context.Context) error { return g.watch(ctx, published) }
	return work.Do(ctx, g.queue, gatePatchers, g.write, watch)
}

// watch looks after the pods that wait, at once and then in growing pauses.
func (g *Gate) watch(ctx context.Context, published Published) error {
	pause := firstAsk
	for {
		began := time.Now()
		least, busy := g.pass(ctx, published)
		pause = max(pause, least)
		var timer <-chan time.Time
		if busy {
			timer = time.After(time.Until(began.Add(pause)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer:
			pause = min(2*pause, max(lastAsk, least))
			continue
		case <-g.changed:
			pause = max(firstAsk, least)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(began.Add(pause))):
		}
	}
}

// pass decides about all pods that wait, and asks the nodes if one of them
// depends on that. It returns how long to wait at least until the next one, and
// whether there has to be one in any case.
func (g *Gate) pass(ctx context.Context, published Published) (least time.Duration, busy bool) {
	pods := g.waiting(time.Now())
	g.metrics.waiting.Set(float64(len(pods)))
	if len(pods) == 0 {
		return firstAsk, g.unconfirmed()
	}
	nodes := map[string]netip.Addr{}
	for name, at := range g.options.Nodes() {
		if published.Alive(name) {
			nodes[name] = at
		}
	}
	least = max(firstAsk, time.Duration(len(nodes))*askEach)
	standing := published.Standing(pods)
	need := g.decide(pods, standing, nodes)
	if need == 0 {
		return least, true
	}
	behind := map[string]netip.Addr{}
	g.mu.Lock()
	for name, at := range nodes {
		if g.reached[name] < need {
			behind[name] = at
		}
	}
	g.mu.Unlock()
	if len(behind) == 0 {
		return least, true
	}
	g.metrics.asked.Inc()
	answers := g.options.Watermarks.Ask(ctx, behind)
	g.mu.Lock()
	for name, version := range answers {
		g.reached[name] = max(g.reached[name], version)
	}
	g.mu.Unlock()
	g.decide(pods, standing, nodes)
	return least, true
}

// waiting returns the pods that wait, among them those of which it should have
// been seen by now that they do not.
func (g *Gate) waiting(now time.Time) []*corev1.Pod {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pods) == 0 {
		clear(g.reached)
	}
	var out []*corev1.Pod
	for uid, is := range g.pods {
		if is.set == nil {
			out = append(out, is.pod)
		} else if !is.written.IsZero() && now.Sub(is.written) > patchAgain {
			is.written = time.Time{}
			g.queue.Add(uid)
		}
	}
	return out
}

// unconfirmed says whether something was written that no watch has shown.
func (g *Gate) unconfirmed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pods) > 0
}

// decide sets the gates that can be. It returns the highest version that one of
// the other pods waits for; 0 if asking the nodes would be of no use.
func (g *Gate) decide(pods []*corev1.Pod, standing map[types.UID]verdict.Standing, nodes map[string]netip.Addr) (need uint64) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	reached := make(map[string]uint64, len(nodes))
	for name := range nodes {
		reached[name] = g.reached[name]
	}
	for _, pod := range pods {
		s, exists := standing[pod.UID]
		is := g.pods[pod.UID]
		if is == nil || is.set != nil || !exists {
			continue
		}
		if is.set = is.next(pod, s, reached, g.terms, now); is.set == nil {
			need = max(need, is.version)
			continue
		}
		if is.set.reason == reasonTimedOut {
			g.metrics.timeouts.Inc()
			g.options.Log.Warn("a pod is let into service before all nodes send to it", "pod", client.ObjectKeyFromObject(pod).String(), "why", is.set.message)
		}
		g.queue.Add(pod.UID)
	}
	return need
}

// write sets one gate. The queue gives each to one worker at a time.
func (g *Gate) write(ctx context.Context, uid types.UID) {
	g.mu.Lock()
	is := g.pods[uid]
	if is == nil || is.set == nil || !is.written.IsZero() {
		g.mu.Unlock()
		g.queue.Forget(uid)
		return
	}
	pod, set, since := is.pod, *is.set, is.since
	g.mu.Unlock()
	if g.limit.Wait(ctx) != nil {
		return // the term is over
	}
	err := g.patch(ctx, pod, set)
	gone := apierrors.IsNotFound(err) || apierrors.IsConflict(err)
	g.mu.Lock()
	if g.pods[uid] == is {
		if gone {
			delete(g.pods, uid) // what there is now is on its way here
		} else if err == nil {
			is.written = time.Now()
		}
	}
	g.mu.Unlock()
	switch {
	case err == nil && set.reason == reasonProgrammed:
		g.metrics.latency.Observe(time.Since(since).Seconds())
	case err != nil && !gone && ctx.Err() == nil:
		g.options.Log.Warn("gate of a pod not set, will try again", "pod", client.ObjectKeyFromObject(pod).String(), "error", err)
		g.queue.AddRateLimited(uid)
		return
	}
	g.queue.Forget(uid)
}

// patch writes the one condition, if the pod is still this one. To shut a gate it
// must not have changed at all: it may be well again.
func (g *Gate) patch(ctx context.Context, pod *corev1.Pod, set opening) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	only := map[string]any{"uid": pod.UID}
	if set.status != corev1.ConditionTrue {
		only["resourceVersion"] = pod.ResourceVersion
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": only,
		"status": map[string]any{"conditions": []map[string]any{{
			"type": verdict.ProgrammedGate, "status": set.status, "reason": set.reason, "message": set.message,
			"lastTransitionTime": metav1.Now(),
		}}},
	})
	if err != nil {
		return err
	}
	at := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := g.options.Client.Status().Patch(ctx, at, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}
