package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/proxy"
)

// patienceForRules is how long Rules waits for the API server.
const patienceForRules = 30 * time.Second

// Rules writes to out the rules that Run would make for the cluster as it is
// now. It reads, and changes nothing, neither there nor on this machine.
func Rules(ctx context.Context, cfg *v1alpha1.SignpostConfiguration, log *slog.Logger, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, patienceForRules)
	defer cancel()
	conn, err := connect(ctx, &cfg.ClientConnection)
	if err != nil {
		return err
	}
	watched, err := watch(cfg, conn, nil, log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- watched.Run(ctx) }()
	select {
	case <-watched.Subscribe():
	case err := <-ended:
		if err == nil {
			err = fmt.Errorf("%s did not answer within %s", conn.config.Host, patienceForRules)
		}
		return err
	}
	snapshot := watched.Snapshot()
	err = proxy.Rules(out, snapshot, proxyConfig(&cfg.Proxy), nameServerAddresses(&cfg.DNS, snapshot))
	cancel()
	return errors.Join(err, <-ended)
}
