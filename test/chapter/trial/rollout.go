package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Rollout is how a Deployment is brought to new pods, and to whom.
type Rollout struct {
	Replicas int
	// LameDuck is how long a pod accepts connections after SIGTERM.
	LameDuck time.Duration
	// Gated pods have the readiness gate signpost.dev/programmed.
	Gated bool
	// Slow makes the client's node program late, see slowness.
	Slow bool
	// Rate is how many new connections per second are made, and Kept how many
	// connections are kept, each asked once per second.
	Rate float64
	Kept int
}

// Rolled is what came of it.
type Rolled struct {
	Took      time.Duration
	New, Kept Tally
}

const (
	gate = "signpost.dev/programmed"
	// rolloutLimit is for one rolling update.
	rolloutLimit = 5 * time.Minute
)

// Rollout brings the sample into the shape that r wants and then, while it is
// asked from the client pod, replaces all its pods by others.
func (b *Bench) Rollout(ctx context.Context, r Rollout) (Rolled, error) {
	var out Rolled
	if err := b.roll(ctx, r); err != nil {
		return out, err
	}
	if err := b.AwaitEndpoints(ctx, r.Replicas); err != nil {
		return out, err
	}
	fresh, err := b.Probe(ctx, b.URL(), r.Rate)
	if err != nil {
		return out, err
	}
	kept, err := b.ProbeKept(ctx, b.From.Status.PodIP, b.URL(), float64(r.Kept), r.Kept)
	if err != nil {
		_, stopErr := fresh.Stop()
		return out, errors.Join(err, stopErr)
	}
	time.Sleep(2 * time.Second)
	quick := func() error { return nil }
	if r.Slow {
		quick, err = b.slow(ctx)
	}
	if err == nil {
		begin := time.Now()
		err = b.restart(ctx)
		out.Took = time.Since(begin)
	}
	// The last of the old pods are still going.
	time.Sleep(r.LameDuck + 3*time.Second)
	err = errors.Join(err, quick())
	freshShots, freshErr := fresh.Stop()
	keptShots, keptErr := kept.Stop()
	out.New, out.Kept = Count(freshShots), Count(keptShots)
	return out, errors.Join(err, freshErr, keptErr)
}

// roll shapes the Deployment, and waits until it is.
func (b *Bench) roll(ctx context.Context, r Rollout) error {
	gates := []map[string]string{}
	if r.Gated {
		gates = append(gates, map[string]string{"conditionType": gate})
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "add", "path": "/spec/template/spec/readinessGates", "value": gates},
		{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": []string{"-lame-duck=" + r.LameDuck.String()}},
		// Without a claim to the processor they are the last that get it, while others
		// of them are being started.
		{"op": "add", "path": "/spec/template/spec/containers/0/resources", "value": map[string]any{"requests": map[string]string{"cpu": "50m"}}},
		{"op": "replace", "path": "/spec/replicas", "value": r.Replicas},
	})
	if err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "patch", "-n", b.Namespace, "deployment/"+service, "--type=json", "-p", string(patch)); err != nil {
		return err
	}
	return b.awaitRollout(ctx)
}

func (b *Bench) restart(ctx context.Context) error {
	if _, err := b.Kubectl(ctx, "rollout", "restart", "-n", b.Namespace, "deployment/"+service); err != nil {
		return err
	}
	return b.awaitRollout(ctx)
}

func (b *Bench) awaitRollout(ctx context.Context) error {
	_, err := b.Kubectl(ctx, "rollout", "status", "-n", b.Namespace, "deployment/"+service, "--timeout="+rolloutLimit.String())
	return err
}

// slowness is how a node is made to program late: its daemon is stopped for so
// long, again and again, and goes on for a moment in between.
const (
	stopped = time.Second
	goesOn  = 100 * time.Millisecond
)

// slow makes the client's node slow until quick is called. It must not be the
// leader that is slowed, which is another matter.
func (b *Bench) slow(ctx context.Context) (quick func() error, err error) {
	number, err := lab.NodeNumber(b.From.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	if err := b.leadElsewhere(ctx, b.From.Spec.NodeName); err != nil {
		return nil, err
	}
	daemon, err := b.Daemon(ctx, number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			err = errors.Join(syscall.Kill(daemon.PID, syscall.SIGSTOP), pause(ctx, stopped),
				syscall.Kill(daemon.PID, syscall.SIGCONT), pause(ctx, goesOn))
		}
		done <- err
	}()
	return func() error {
		cancel()
		if err := <-done; err != nil {
			return fmt.Errorf("slow daemon of %s: %w", b.From.Spec.NodeName, err)
		}
		return nil
	}, nil
}

// pause waits, shorter if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}
