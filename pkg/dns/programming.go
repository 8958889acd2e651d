package dns

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
)

// The kinds of Services that programming is measured for, as CoreDNS names them. There
// is no time to measure from for Services without a selector.
const (
	kindClusterIP = "cluster_ip"
	kindHeadless  = "headless_with_selector"
)

func newProgramming() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "coredns_kubernetes_dns_programming_duration_seconds",
		Help:    "Time from what changed the endpoints of a Service, such as a pod's becoming ready, until the names are answered that way.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
	}, []string{"service_kind"})
}

// programmed observes what is answered since now that was not answered when older
// was. Of the first Snapshot nobody knows how long it might have been answered.
func (m *metrics) programmed(older, newer *model.Snapshot, now time.Time) {
	if older == nil {
		return
	}
	for _, name := range newer.Services.Diff(&older.Services) {
		is := newer.Services.Get(name)
		if is == nil {
			continue
		}
		var was []model.EndpointGroup
		if old := older.Services.Get(name); old != nil {
			was = old.Groups
		}
		kind := kindClusterIP
		if is.Headless {
			kind = kindHeadless
		}
		for _, g := range is.Groups {
			known := slices.ContainsFunc(was, func(o model.EndpointGroup) bool { return o.Triggered.Equal(g.Triggered) })
			if !g.Triggered.IsZero() && !known {
				m.programming.WithLabelValues(kind).Observe(now.Sub(g.Triggered).Seconds())
			}
		}
	}
}
