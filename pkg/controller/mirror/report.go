package mirror

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// The reasons of Events on an Endpoints, as upstream has them.
const (
	invalidAddress = "InvalidIPAddress"
	tooMany        = "TooManyAddressesToMirror"
	failed         = "FailedToUpdateEndpointSlices"
)

// losses are how many addresses of an Endpoints are not mirrored.
type losses struct{ invalid, skipped int }

// told has what was told of each Endpoints, so that it is told once.
type told struct {
	mu    sync.Mutex
	known map[ledger.Key]losses
}

// isNews notes l and says whether it was not known.
func (t *told) isNews(k ledger.Key, l losses) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.known[k] != l
	t.known[k] = l
	if l == (losses{}) {
		delete(t.known, k)
	}
	return news
}

// report tells the Endpoints' owner of addresses that are not mirrored.
func (c *Controller) report(k ledger.Key, e *corev1.Endpoints, m plan.Mirror) {
	if l := (losses{m.Invalid, m.Skipped}); !c.told.isNews(k, l) || l == (losses{}) {
		return
	}
	c.log.Info("not all addresses of Endpoints are mirrored", "service", k.String(), "invalid", m.Invalid, "skipped", m.Skipped)
	if m.Invalid > 0 {
		c.event(e, invalidAddress, "Skipped %d invalid IP addresses when mirroring to EndpointSlices", m.Invalid)
	}
	if m.Skipped > m.Invalid {
		c.event(e, tooMany, "A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped",
			c.options.MaxEndpointsPerSubset, m.Skipped)
	}
}

func (c *Controller) event(e *corev1.Endpoints, reason, message string, args ...any) {
	if c.options.Recorder != nil {
		c.options.Recorder.Eventf(e, corev1.EventTypeWarning, reason, message, args...)
	}
}
