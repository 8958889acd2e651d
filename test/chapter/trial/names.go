package trial

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Interruption is something that happens to the daemon which answers the client pod.
type Interruption struct {
	Name string
	do   func(*Bench, context.Context) error
}

// Interruptions are the ones that names have to survive.
func Interruptions() []Interruption {
	return []Interruption{
		{"the daemon is killed with -9", (*Bench).killDaemon},
		{"its pod is deleted", (*Bench).deleteDaemon},
		{"all daemons are rolled", (*Bench).rollDaemons},
	}
}

// Names asks the cluster's DNS for the Service rate times a second from the client
// pod, from a second before what happens until two seconds after all is ready again.
// It returns how long that took, and what became of the questions.
func (b *Bench) Names(ctx context.Context, i Interruption, rate float64) (took time.Duration, dns Tally, err error) {
	probe, err := b.ProbeName(ctx, rate)
	if err != nil {
		return 0, dns, err
	}
	time.Sleep(time.Second)
	begin := time.Now()
	err = i.do(b, ctx)
	took = time.Since(begin)
	time.Sleep(2 * time.Second)
	shots, stopErr := probe.Stop()
	return took, Count(shots), errors.Join(err, stopErr)
}

func (b *Bench) killDaemon(ctx context.Context) error {
	number, err := lab.NodeNumber(b.From.Spec.NodeName)
	if err != nil {
		return err
	}
	address, err := b.NodeAddress(ctx, b.From.Spec.NodeName)
	if err != nil {
		return err
	}
	daemon, err := b.Daemon(ctx, number)
	if err != nil {
		return err
	}
	if err := syscall.Kill(daemon.PID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the daemon of %s: %w", b.From.Spec.NodeName, err)
	}
	var k Killed
	return k.follow(ctx, b, number, address, daemon.PID, time.Now())
}

// daemonSelector selects the pods of the DaemonSet.
const daemonSelector = "k8s-app=signpost"

func (b *Bench) deleteDaemon(ctx context.Context) error {
	pods, err := b.Client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		LabelSelector: daemonSelector, FieldSelector: "spec.nodeName=" + b.From.Spec.NodeName})
	if err != nil {
		return err
	}
	if len(pods.Items) != 1 {
		return fmt.Errorf("%d daemons on %s, want 1", len(pods.Items), b.From.Spec.NodeName)
	}
	if _, err := b.Kubectl(ctx, "delete", "pod", "-n", metav1.NamespaceSystem, pods.Items[0].Name); err != nil {
		return err
	}
	return b.daemonsReady(ctx)
}

func (b *Bench) rollDaemons(ctx context.Context) error {
	if _, err := b.Kubectl(ctx, "rollout", "restart", "-n", metav1.NamespaceSystem, "daemonset/signpost"); err != nil {
		return err
	}
	return b.daemonsReady(ctx)
}

func (b *Bench) daemonsReady(ctx context.Context) error {
	_, err := b.Kubectl(ctx, "rollout", "status", "-n", metav1.NamespaceSystem, "daemonset/signpost", "--timeout="+startWait.String())
	return err
}
