package dns

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/signpost-dev/signpost/pkg/model"
)

// TestProgrammingIsMeasured goes through changes of a headless Service.
func TestProgrammingIsMeasured(t *testing.T) {
	s, snapshots := newServer(t, nil)
	begin := time.Now().Add(-time.Minute)
	publish := func(triggered ...time.Time) {
		next := *snapshots.current
		svc := &model.Service{Name: model.Name{Namespace: "default", Name: "db"}, Headless: true}
		for _, at := range triggered {
			svc.Groups = append(svc.Groups, model.EndpointGroup{Triggered: at})
		}
		next.Services = next.Services.With(map[model.Name]*model.Service{svc.Name: svc})
		snapshots.publish(&next)
		s.publish(time.Now())
	}
	want := func(n int) {
		t.Helper()
		if got := observed(t, s.metrics.programming.WithLabelValues(kindHeadless)); got != n {
			t.Errorf("%d are observed, want %d", got, n)
		}
	}
	publish(begin) // the first Snapshot
	want(0)
	publish(begin, begin.Add(time.Second))
	want(1)
	publish(begin.Add(2*time.Second), begin.Add(time.Second))
	want(2)
	publish(begin.Add(2 * time.Second)) // one goes
	want(2)
	publish(begin.Add(2*time.Second), time.Time{}) // nobody knows what led to it
	want(2)
	if n := testutil.CollectAndCount(s.metrics.programming); n != 1 {
		t.Errorf("%d kinds, want only headless ones", n)
	}
}

// observed returns how many values a histogram has.
func observed(tb testing.TB, o prometheus.Observer) int {
	tb.Helper()
	var d dto.Metric
	if err := o.(prometheus.Metric).Write(&d); err != nil {
		tb.Fatal(err)
	}
	return int(d.GetHistogram().GetSampleCount())
}
