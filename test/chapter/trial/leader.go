package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const (
	system      = "kube-system"
	leaderLease = "signpost"
	daemonLabel = "k8s-app=signpost"
	leaderLimit = 90 * time.Second
	settled     = 5 * time.Second
)

// HandOver is what came of the end of the leader while pods changed their
// readiness all the time.
type HandOver struct {
	From, To string
	// Before is the longest time between two publications in the ten seconds
	// before the end, After the longest one since.
	Before, After time.Duration
	// Changes is how many publications were seen in all.
	Changes int
}

// HandOver ends the leader, by SIGTERM or by SIGKILL, and waits until what is
// published is what the pods are: each of them once.
func (b *Bench) HandOver(ctx context.Context, signal syscall.Signal) (h HandOver, err error) {
	if err := b.fresh(ctx); err != nil {
		return h, err
	}
	if h.From, err = b.leader(ctx); err != nil {
		return h, err
	}
	number, err := lab.NodeNumber(h.From)
	if err != nil {
		return h, err
	}
	daemon, err := b.Daemon(ctx, number)
	if err != nil {
		return h, err
	}
	watch, err := b.WatchEndpoints(ctx, b.Namespace, service)
	if err != nil {
		return h, err
	}
	defer watch.Stop()
	calm, err := b.unrest(ctx)
	if err != nil {
		return h, err
	}
	const before, after = 10 * time.Second, 5 * time.Second
	time.Sleep(before)
	ended := time.Now()
	err = syscall.Kill(daemon.PID, signal)
	if err == nil {
		err = b.follow(ctx, &h, watch, ended)
	}
	time.Sleep(after)
	now, told := time.Now(), watch.All()
	if err = errors.Join(err, calm()); err != nil {
		return h, err
	}
	h.Changes = len(told)
	h.Before, h.After = longest(told, ended.Add(-before), ended), longest(told, ended, now)
	return h, lab.Eventually(ctx, startWait, func() error { return b.sameAsPods(ctx) })
}

// fresh replaces the daemons' pods, so that the kubelet does not make one wait
// because it has ended before.
func (b *Bench) fresh(ctx context.Context) error {
	if _, err := b.Kubectl(ctx, "rollout", "restart", "-n", system, "daemonset/signpost"); err != nil {
		return err
	}
	_, err := b.Kubectl(ctx, "rollout", "status", "-n", system, "daemonset/signpost", "--timeout="+leaderLimit.String())
	if err != nil {
		return err
	}
	// The last one to come may be next in line only in a moment.
	return pause(ctx, settled)
}

// longest is the longest time without a change between from and to.
func longest(told []lab.Change, from, to time.Time) (gap time.Duration) {
	last := from
	for _, c := range told {
		if c.At.After(last) && c.At.Before(to) {
			gap = max(gap, c.At.Sub(last))
			last = c.At
		}
	}
	return max(gap, to.Sub(last))
}

// follow waits for the first publication after the leader's end, and says who
// leads then.
func (b *Bench) follow(ctx context.Context, h *HandOver, watch *lab.Changes, ended time.Time) error {
	err := lab.Eventually(ctx, leaderLimit, func() error {
		for _, c := range watch.All() {
			if c.At.After(ended.Add(time.Second)) {
				return nil
			}
		}
		return errors.New("nothing has been published since the leader's end")
	})
	if err != nil {
		return err
	}
	h.To, err = b.leader(ctx)
	return err
}

// leader returns the node that leads.
func (b *Bench) leader(ctx context.Context) (string, error) {
	lease, err := b.Client.CoordinationV1().Leases(system).Get(ctx, leaderLease, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", errors.New("nobody leads")
	}
	return *lease.Spec.HolderIdentity, nil
}

// leadElsewhere sees to it that another node than this one leads.
func (b *Bench) leadElsewhere(ctx context.Context, node string) error {
	return lab.Eventually(ctx, leaderLimit, func() error {
		leader, err := b.leader(ctx)
		if err != nil || leader != node {
			return err
		}
		_, err = b.Kubectl(ctx, "delete", "pod", "-n", system, "-l", daemonLabel, "--field-selector=spec.nodeName="+node)
		if err == nil {
			_, err = b.Kubectl(ctx, "rollout", "status", "-n", system, "daemonset/signpost")
		}
		return errors.Join(errors.New(node+" leads"), err)
	})
}

// unrest switches the readiness of the pods in turn, until calm is called: then
// all are ready again.
func (b *Bench) unrest(ctx context.Context) (calm func() error, err error) {
	pods, err := b.Client.CoreV1().Pods(b.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	quiet := b.Quiet()
	ask := func(pod *corev1.Pod, path string) error {
		_, err := quiet.Node(ctx, 1, "curl", "-sS", "--max-time", "5", "-X", "POST", "http://"+pod.Status.PodIP+":8080"+path)
		return err
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			path := []string{"/ready/off", "/ready/on"}[i/len(pods.Items)%2]
			err = ask(&pods.Items[i%len(pods.Items)], path)
			select {
			case <-stop:
				for i := range pods.Items {
					err = errors.Join(err, ask(&pods.Items[i], "/ready/on"))
				}
				done <- err
				return
			case <-time.After(time.Second / time.Duration(len(pods.Items))):
			}
		}
		<-stop
		done <- err
	}()
	return func() error { close(stop); return <-done }, nil
}

// sameAsPods compares what is published with the pods.
func (b *Bench) sameAsPods(ctx context.Context) error {
	pods, err := b.Client.CoreV1().Pods(b.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	var want, slicesHave, endpointsHave []string
	for i := range pods.Items {
		if lab.PodReady(&pods.Items[i]) {
			want = append(want, pods.Items[i].Status.PodIP)
		}
	}
	if len(want) != len(pods.Items) {
		return fmt.Errorf("%d of %d pods are ready", len(want), len(pods.Items))
	}
	list, err := b.Client.DiscoveryV1().EndpointSlices(b.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				slicesHave = append(slicesHave, e.Addresses...)
			}
		}
	}
	endpoints, err := b.Client.CoreV1().Endpoints(b.Namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, s := range endpoints.Subsets {
		for _, a := range s.Addresses {
			endpointsHave = append(endpointsHave, a.IP)
		}
	}
	for _, x := range [][]string{want, slicesHave, endpointsHave} {
		slices.Sort(x)
	}
	if !slices.Equal(want, slicesHave) || !slices.Equal(want, endpointsHave) {
		return fmt.Errorf("pods %v, EndpointSlices %v, Endpoints %v", want, slicesHave, endpointsHave)
	}
	return nil
}
