//go:build e2e

package e2e

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/test/chapter"
	"github.com/signpost-dev/signpost/test/chapter/lab"
	"github.com/signpost-dev/signpost/test/chapter/trial"
)

// cluster opens the cluster, or fails and says how to get one.
func cluster(t *testing.T) *lab.Cluster {
	t.Helper()
	c, err := lab.Open(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// bench deploys the sample; what is run goes to the test's log.
func bench(t *testing.T) *trial.Bench {
	t.Helper()
	c := cluster(t)
	c.Transcript(t.Output())
	b, err := trial.NewBench(t.Context(), c, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestChapter(t *testing.T) {
	chapter.Walk(t.Context(), cluster(t), io.Discard, nil, func(r chapter.Result) {
		t.Run(r.Step.Name, func(t *testing.T) {
			if r.Err != nil {
				t.Fatalf("%s: %v\n%s", r.Step.Title, r.Err, r.Transcript)
			}
			t.Logf("%s (%v)", r.Finding, r.Took.Round(time.Millisecond))
		})
	})
}

// TestScaling holds that a Deployment can be scaled up and down under load. The
// pods go on answering for five seconds after they were told to end.
func TestScaling(t *testing.T) {
	const requests, rounds = 1000, 5
	tally, _, err := bench(t).Churn(t.Context(), requests, rounds, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(tally)
	if tally.Total != requests {
		t.Errorf("%d requests were made, want %d", tally.Total, requests)
	}
	if len(tally.Failed) > 0 {
		t.Errorf("%d requests failed: %v", len(tally.Failed), tally.Reasons())
	}
}

// TestReadiness holds that a pod that is not ready gets no packets, soon.
func TestReadiness(t *testing.T) {
	const changes, bound = 5, time.Second
	err := bench(t).Readiness(t.Context(), changes, 200, func(f trial.Flip) {
		t.Logf("%s ready=%v: endpoint after %v, packet after %v", f.Pod, f.Ready, f.Endpoint, f.Packet)
		if f.Packet > bound {
			t.Errorf("%s ready=%v: packet after %v, want at most %v", f.Pod, f.Ready, f.Packet, bound)
		}
		if f.Failed > 0 {
			t.Errorf("%s ready=%v: %d connections failed", f.Pod, f.Ready, f.Failed)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledDaemon holds that packets and names go on without the daemon and
// while the next one takes over, and that this one is ready soon.
func TestKilledDaemon(t *testing.T) {
	const bound = 5 * time.Second
	k, err := bench(t).Kill(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: restarted by the kubelet after %v, ready %v later; packets: %v; names: %v", k.Node, k.Restart, k.Ready, k.HTTP, k.DNS)
	if k.Ready > bound {
		t.Errorf("ready %v after its start, want at most %v", k.Ready, bound)
	}
	if k.HTTP.Total == 0 || k.DNS.Total == 0 {
		t.Error("nothing was asked")
	}
	if len(k.HTTP.Failed) > 0 {
		t.Errorf("packets: %d of %d requests failed: %v", len(k.HTTP.Failed), k.HTTP.Total, k.HTTP.Reasons())
	}
	// One that the dead process had received but not answered is lost.
	if len(k.DNS.Failed) > 1 {
		t.Errorf("names: %d of %d queries failed: %v", len(k.DNS.Failed), k.DNS.Total, k.DNS.Reasons())
	}
}

// TestAPIServerAway holds that packets and names go on without the API server,
// and that a new Service works soon after its return.
func TestAPIServerAway(t *testing.T) {
	const away, bound = 20 * time.Second, 10 * time.Second
	o, err := bench(t).Outage(t.Context(), away, 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a new Service was created %v after the return and worked %v later; packets: %v; names: %v", o.Created, o.Works, o.HTTP, o.DNS)
	if o.Works > bound {
		t.Errorf("a new Service worked after %v, want at most %v", o.Works, bound)
	}
	if o.HTTP.Total == 0 || o.DNS.Total == 0 {
		t.Error("nothing was asked")
	}
	if len(o.HTTP.Failed) > 0 {
		t.Errorf("packets: %d of %d requests failed: %v", len(o.HTTP.Failed), o.HTTP.Total, o.HTTP.Reasons())
	}
	if len(o.DNS.Failed) > 0 {
		t.Errorf("names: %d of %d queries failed: %v", len(o.DNS.Failed), o.DNS.Total, o.DNS.Reasons())
	}
}
