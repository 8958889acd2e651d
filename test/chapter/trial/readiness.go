package trial

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Flip is one change of a pod's readiness and what followed from it. Times are
// from the moment when the API server's watch told the pod's new status, see
// WatchDelay.
type Flip struct {
	Pod   string
	Ready bool
	// Told is when the change was told.
	Told time.Time
	// Endpoint is how much later the EndpointSlice had it.
	Endpoint time.Duration
	// Packet is how much later the last new connection that reached the pod
	// was begun or, if the pod became ready, the first one. Negative if the
	// last one was begun before the change was told.
	Packet time.Duration
	// After counts the new connections that reached the pod after the
	// change, if it became unready.
	After int
	// Failed counts the connections that nobody answered meanwhile.
	Failed int
}

// Flipper changes the readiness of a Service's pods and watches what follows.
type Flipper struct {
	Cluster *lab.Cluster
	// Pods and Endpoints watch the Service's pods and slices.
	Pods, Endpoints *lab.Changes
	// Probe asks the Service.
	Probe *lab.Probe
}

// NewFlipper begins to watch and to ask a Service from the pod at podIP.
func NewFlipper(ctx context.Context, c *lab.Cluster, namespace, service, selector, podIP, url string, rate float64) (*Flipper, error) {
	f := &Flipper{Cluster: c}
	var err error
	if f.Pods, err = c.WatchPods(ctx, namespace, selector); err != nil {
		return nil, err
	}
	if f.Endpoints, err = c.WatchEndpoints(ctx, namespace, service); err != nil {
		f.Pods.Stop()
		return nil, err
	}
	if f.Probe, err = c.Probe(ctx, podIP, url, rate); err != nil {
		f.Pods.Stop()
		f.Endpoints.Stop()
		return nil, err
	}
	return f, nil
}

// Stop ends the watching and the asking.
func (f *Flipper) Stop() error {
	f.Pods.Stop()
	f.Endpoints.Stop()
	_, err := f.Probe.Stop()
	return err
}

const (
	// tellLimit is for the kubelet, whose probe runs once a second.
	tellLimit = 15 * time.Second
	// settle is how long no packet may have reached a pod for the one before to
	// count as the last.
	settle      = 700 * time.Millisecond
	packetLimit = 15 * time.Second
)

// Flip switches the pod's readiness by ask, which makes the pod answer its
// readiness probe otherwise, and waits for what follows.
func (f *Flipper) Flip(ctx context.Context, pod *corev1.Pod, ready bool, ask func() error) (Flip, error) {
	begin := time.Now()
	f.Probe.Forget(begin.Add(-time.Second))
	if err := ask(); err != nil {
		return Flip{}, err
	}
	told, err := f.Pods.Await(ctx, tellLimit, begin, pod.Name, ready)
	if err != nil {
		return Flip{}, fmt.Errorf("status of the pod: %w", err)
	}
	endpoint, err := f.Endpoints.Await(ctx, packetLimit, begin, pod.Name, ready)
	if err != nil {
		return Flip{}, fmt.Errorf("its endpoint: %w", err)
	}
	flip := Flip{Pod: pod.Name, Ready: ready, Told: told.At, Endpoint: endpoint.At.Sub(told.At)}
	err = lab.Eventually(ctx, packetLimit, func() error { return flip.see(f.Probe.Shots(), begin, time.Now()) })
	return flip, err
}

// see finds the first or the last packet in what has been asked since begin.
func (flip *Flip) see(shots []lab.Shot, begin, now time.Time) error {
	shots = slices.DeleteFunc(shots, func(s lab.Shot) bool { return s.Begin.Before(begin) })
	flip.After, flip.Failed = 0, 0
	var hits []time.Time
	for _, s := range shots {
		if s.Err != "" {
			flip.Failed++
		}
		if s.Pod == flip.Pod {
			hits = append(hits, s.Begin)
			if s.Begin.After(flip.Told) {
				flip.After++
			}
		}
	}
	if flip.Ready {
		if len(hits) == 0 {
			return fmt.Errorf("no packet has reached %s since it is ready", flip.Pod)
		}
		flip.Packet = hits[0].Sub(flip.Told)
		return nil
	}
	last := begin
	if len(hits) > 0 {
		last = hits[len(hits)-1]
	}
	if since := now.Sub(last); since < settle || now.Sub(flip.Told) < settle {
		return fmt.Errorf("a packet has reached %s %v ago", flip.Pod, since)
	}
	flip.Packet = last.Sub(flip.Told)
	return nil
}

// Readiness makes n changes each way, one pod after the other, and reports each.
func (b *Bench) Readiness(ctx context.Context, n int, rate float64, report func(Flip)) (err error) {
	f, err := NewFlipper(ctx, b.Cluster, b.Namespace, service, selector, b.From.Status.PodIP, b.URL(), rate)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := f.Stop(); err == nil {
			err = stopErr
		}
	}()
	pods, err := b.Client.CoreV1().Pods(b.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	quiet := b.Quiet()
	for i := range n {
		pod := &pods.Items[i%len(pods.Items)]
		for _, ready := range []bool{false, true} {
			path := map[bool]string{false: "/ready/off", true: "/ready/on"}[ready]
			flip, err := f.Flip(ctx, pod, ready, func() error {
				_, err := quiet.Node(ctx, 1, "curl", "-sS", "--max-time", "5", "-X", "POST", "http://"+pod.Status.PodIP+":8080"+path)
				return err
			})
			if err != nil {
				return fmt.Errorf("change %d of %s: %w", i+1, pod.Name, err)
			}
			report(flip)
		}
	}
	return nil
}

// WatchDelay measures how much later than a write its watch tells it: n writes
// of the client pod's annotations, from the answer to the write, and from its
// beginning. The truth, the commit, lies between the two.
func (b *Bench) WatchDelay(ctx context.Context, n int) (fromAnswer, fromBegin []time.Duration, err error) {
	pods := b.Client.CoreV1().Pods(b.Namespace)
	now, err := pods.Get(ctx, client, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	w, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + client, ResourceVersion: now.ResourceVersion})
	if err != nil {
		return nil, nil, err
	}
	defer w.Stop()
	told := make(chan time.Time, n)
	go func() {
		for range w.ResultChan() {
			told <- time.Now()
		}
	}()
	for i := range n {
		begin := time.Now()
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"signpost.dev/trial":"%d-%d"}}}`, begin.UnixNano(), i)
		if _, err := pods.Patch(ctx, client, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			return nil, nil, err
		}
		answered := time.Now()
		select {
		case at := <-told:
			fromAnswer = append(fromAnswer, at.Sub(answered))
			fromBegin = append(fromBegin, at.Sub(begin))
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	return fromAnswer, fromBegin, nil
}

// Percentile returns the p-th percentile, 0 to 100, of values; 0 of none.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p/100*float64(len(sorted))))]
}
