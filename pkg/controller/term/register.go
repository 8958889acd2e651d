package term

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers *c, a metric of what runs in terms. If an earlier term has
// done so, it sets *c to that one instead, so that it goes on counting.
func Register[T prometheus.Collector](r prometheus.Registerer, c *T) error {
	err := r.Register(*c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if have, ok := already.ExistingCollector.(T); ok {
			*c = have
			return nil
		}
	}
	return err
}
