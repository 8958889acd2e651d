package trial

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Killed is what came of killing the daemon of the node that the client pod is
// on.
type Killed struct {
	Node string
	// Restart is the time from the kill until the kernel made the next
	// process: the kubelet's part. Ready is the time from then until /readyz
	// said 200: Signpost's.
	Restart, Ready time.Duration
	// HTTP and DNS were asked from a second before the kill until two seconds
	// after the daemon was ready.
	HTTP, DNS Tally
}

// Kill ends the daemon with SIGKILL on the node of the client pod, whose
// packets and queries go on.
func (b *Bench) Kill(ctx context.Context, rate float64) (Killed, error) {
	k := Killed{Node: b.From.Spec.NodeName}
	address, err := b.NodeAddress(ctx, k.Node)
	if err != nil {
		return k, err
	}
	number, err := lab.NodeNumber(k.Node)
	if err != nil {
		return k, err
	}
	before, err := b.Daemon(ctx, number)
	if err != nil {
		return k, err
	}
	k.HTTP, k.DNS, err = b.during(ctx, rate, func() error {
		killed := time.Now()
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill the daemon of %s: %w", k.Node, err)
		}
		return k.follow(ctx, b, number, address, before.PID, killed)
	})
	return k, err
}

// follow waits for the next process and for its readiness.
func (k *Killed) follow(ctx context.Context, b *Bench, number int, address string, pid int, killed time.Time) error {
	const restartLimit, readyLimit = 2 * time.Minute, time.Minute
	var next lab.Daemon
	err := lab.Eventually(ctx, readyLimit, func() error {
		if !lab.Ready(ctx, address) {
			return nil
		}
		return errors.New("the killed daemon still says that it is ready")
	})
	if err != nil {
		return err
	}
	err = lab.Eventually(ctx, restartLimit, func() (err error) {
		next, err = b.Daemon(ctx, number)
		if err == nil && next.PID == pid {
			err = fmt.Errorf("process %d is still there", pid)
		}
		return err
	})
	if err != nil {
		return err
	}
	for !lab.Ready(ctx, address) {
		if time.Since(next.Started) > readyLimit {
			return fmt.Errorf("the daemon of %s is not ready %v after its start", k.Node, readyLimit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	k.Restart, k.Ready = next.Started.Sub(killed), time.Since(next.Started)
	return nil
}

// during asks the Service by HTTP and DNS from a second before event until two
// seconds after it.
func (b *Bench) during(ctx context.Context, rate float64, event func() error) (http, dns Tally, err error) {
	httpProbe, err := b.Probe(ctx, b.URL(), rate)
	if err != nil {
		return http, dns, err
	}
	dnsProbe, err := b.ProbeName(ctx, rate)
	if err != nil {
		_, stopErr := httpProbe.Stop()
		return http, dns, errors.Join(err, stopErr)
	}
	time.Sleep(time.Second)
	err = event()
	time.Sleep(2 * time.Second)
	httpShots, httpErr := httpProbe.Stop()
	dnsShots, dnsErr := dnsProbe.Stop()
	return Count(httpShots), Count(dnsShots), errors.Join(err, httpErr, dnsErr)
}
