package daemon

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/dns"
	"github.com/signpost-dev/signpost/pkg/dns/outside"
)

// startOutward has the world outside answered, if there is a zone for it.
func (n *node) startOutward(ctx context.Context, group *errgroup.Group) error {
	cfg := &n.cfg.DNS.Outside
	if cfg.Zone == "" {
		return nil
	}
	zone, err := outside.New(cfg.Zone, uint32(cfg.TTL.Duration/time.Second), cfg.NameServers)
	if err != nil {
		return fmt.Errorf("dns.outside: %w", err)
	}
	server := dns.NewOutward(dns.OutwardOptions{Snapshots: n.watched, Zone: zone, Port: uint16(cfg.Port), Registerer: n.registry, Log: n.log})
	group.Go(func() error { return server.Run(ctx) })
	return nil
}
