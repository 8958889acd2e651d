package healthcheck

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Late is how long changes may wait for their rules until the node is not healthy any
// more: twice kube-proxy's default sync period.
const Late = time.Minute

// nodeReport is what a load balancer is told of the node.
type nodeReport struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible bool      `json:"nodeEligible"`
	Healthy      bool      `json:"healthy"`
}

// Node returns what answers /healthz: 200, unless rules are late, or the node is about to
// leave: it is being deleted, or cluster-autoscaler has tainted it for that (KEP-3836). behind
// returns how long changes have waited for their rules; both are called for each
// request. Answers are counted under kube-proxy's name; the error is that of registering that.
func Node(snapshot func() *model.Snapshot, behind func() time.Duration, r prometheus.Registerer) (http.Handler, error) {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubeproxy_proxy_healthz_total", Help: "Answers of /healthz, by status.",
	}, []string{"code"})
	if err := r.Register(answers); err != nil {
		return nil, fmt.Errorf("metric of the node's health: %w", err)
	}
	return promhttp.InstrumentHandlerCounter(answers, node(snapshot, behind)), nil
}

func node(snapshot func() *model.Snapshot, behind func() time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		s, late := snapshot(), behind()
		r := nodeReport{LastUpdated: now, CurrentTime: now, NodeEligible: s != nil && !s.Node.Leaving, Healthy: late < Late}
		if !r.Healthy {
			r.LastUpdated = now.Add(-late)
		}
		writeJSON(w, r.Healthy && r.NodeEligible, r)
	})
}
