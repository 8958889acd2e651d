package trial

import (
	"context"
	"fmt"
	"strconv"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Frozen is what came of the death of a node that some of the pods were on.
type Frozen struct {
	Node string
	// Left is the time from the death until no endpoint on the node was
	// published as ready, LastFailed until the last connection that failed was
	// begun. Both are zero if that did not happen.
	Left, LastFailed time.Duration
	// Late counts the failed ones that were begun more than a second after Left:
	// by ports whose half-open connections the kernel still has in its table.
	Late int
	// HTTP is what was asked from another node.
	HTTP Tally
	// Back is the time from the node's return until its endpoints were ready
	// again.
	Back time.Duration
}

const (
	// freezeLimit is above what the stock controllers need.
	freezeLimit = 3 * time.Minute
	// calm is how long no connection may fail for the one before to be the last.
	calm = 10 * time.Second
)

// Freeze makes the node that the client is not on die without a word, waits until
// connections do not fail any more, and brings it back.
func (b *Bench) Freeze(ctx context.Context, rate float64) (f Frozen, err error) {
	number, err := b.otherNode()
	if err != nil {
		return f, err
	}
	f.Node = fmt.Sprint("node", number)
	probe, err := b.Probe(ctx, b.URL(), rate)
	if err != nil {
		return f, err
	}
	time.Sleep(time.Second)
	died := time.Now()
	if err = b.Cluster.Freeze(ctx, number, false); err == nil {
		f.Left, err = b.awaitNone(ctx, f.Node, died)
	}
	if err == nil {
		err = lab.Eventually(ctx, freezeLimit, func() error {
			shots := probe.Shots()
			last := lastFailed(shots)
			if time.Since(last) < calm || time.Since(died) < calm {
				return fmt.Errorf("a connection has failed %v ago", time.Since(last).Round(time.Second))
			}
			if !last.IsZero() {
				f.LastFailed = last.Sub(died)
			}
			return nil
		})
	}
	shots, stopErr := probe.Stop()
	f.HTTP = Count(shots)
	for _, s := range f.HTTP.Failed {
		if s.Begin.After(died.Add(f.Left + time.Second)) {
			f.Late++
		}
	}
	// Whatever happened, nobody else could use the cluster without its node.
	returned := time.Now()
	if thawErr := b.Thaw(context.WithoutCancel(ctx), number); err == nil {
		err = thawErr
	}
	if err == nil {
		err = stopErr
	}
	if err != nil {
		return f, err
	}
	err = lab.Eventually(ctx, freezeLimit, func() error {
		if n, err := b.readyOn(ctx, f.Node); err != nil || n == 0 {
			return fmt.Errorf("%d endpoints are ready on %s: %w", n, f.Node, err)
		}
		return nil
	})
	f.Back = time.Since(returned)
	return f, err
}

func lastFailed(shots []lab.Shot) (last time.Time) {
	for _, s := range shots {
		if s.Err != "" {
			last = s.Begin
		}
	}
	return last
}

// awaitNone waits until no endpoint on the node is ready.
func (b *Bench) awaitNone(ctx context.Context, node string, since time.Time) (time.Duration, error) {
	err := lab.Eventually(ctx, freezeLimit, func() error {
		if n, err := b.readyOn(ctx, node); err != nil || n > 0 {
			return fmt.Errorf("%d endpoints are ready on %s: %w", n, node, err)
		}
		return nil
	})
	return time.Since(since), err
}

// otherNode is the number of the node that the client is not on, which has to
// have one of the Service's pods.
func (b *Bench) otherNode() (int, error) {
	on, err := lab.NodeNumber(b.From.Spec.NodeName)
	if err != nil {
		return 0, err
	}
	other := 3 - on // hack/cluster has two nodes
	n, err := b.readyOn(context.Background(), "node"+strconv.Itoa(other))
	if err == nil && n == 0 {
		err = fmt.Errorf("no pod of the Service is on node%d", other)
	}
	return other, err
}

// readyOn counts the Service's endpoints on a node that are ready, or those on all
// nodes if it is empty.
func (b *Bench) readyOn(ctx context.Context, node string) (int, error) {
	list, err := b.Client.DiscoveryV1().EndpointSlices(b.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return 0, err
	}
	ready := 0
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if (e.Conditions.Ready == nil || *e.Conditions.Ready) && (node == "" || e.NodeName != nil && *e.NodeName == node) {
				ready++
			}
		}
	}
	return ready, nil
}

// Partition is what came of the kubelets being cut off from the control plane
// while all else went on.
type Partition struct {
	// Least is the least number of ready endpoints that was published.
	Least int
	HTTP  Tally
}

// Partition stops all kubelets for a time.
func (b *Bench) Partition(ctx context.Context, length time.Duration, rate float64) (p Partition, err error) {
	probe, err := b.Probe(ctx, b.URL(), rate)
	if err != nil {
		return p, err
	}
	if p.Least, err = b.readyOn(ctx, ""); err != nil {
		return p, err
	}
	for n := 1; n <= 2 && err == nil; n++ {
		err = b.Cluster.Freeze(ctx, n, true)
	}
	for end := time.Now().Add(length); err == nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var n int
		n, err = b.readyOn(ctx, "")
		p.Least = min(p.Least, n)
	}
	for n := 1; n <= 2; n++ {
		if thawErr := b.Thaw(context.WithoutCancel(ctx), n); err == nil {
			err = thawErr
		}
	}
	shots, stopErr := probe.Stop()
	p.HTTP = Count(shots)
	if err == nil {
		err = stopErr
	}
	return p, err
}
