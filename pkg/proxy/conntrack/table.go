package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// kernel is the table of a network namespace. What is stale is deleted by another
// socket than the one that reads, which is busy.
type kernel struct {
	family      ruleset.Family
	reads, cuts *conn
	routes      *netlink.Handle
	// unfiltered: the kernel does not know filters.
	unfiltered bool
}

// Open opens the table of a family in the network namespace of the calling thread,
// for use from any thread. The error says what is missing: the kernel's
// nf_conntrack_netlink, or CAP_NET_ADMIN.
func Open(ctx context.Context, family ruleset.Family) (Table, error) {
	k := &kernel{family: family}
	if err := k.open(ctx); err != nil {
		k.Close()
		return nil, fmt.Errorf("opening the kernel's table of connections: %w", err)
	}
	return k, nil
}

func (k *kernel) open(ctx context.Context) error {
	var err error
	if k.reads, err = dial(); err != nil {
		return err
	}
	if k.cuts, err = dial(); err != nil {
		return err
	}
	if k.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink socket for addresses: %w", err)
	}
	// A filter that hardly anything passes: this finds out what can be done, and
	// not how many flows there are.
	_, err = k.Cut(ctx, stale.Filter{Protocol: stale.UDP, ToPort: 1, Unanswered: true}, func(stale.Flow) bool { return false })
	return err
}

// Family implements Table.
func (k *kernel) Family() ruleset.Family { return k.family }

// Close closes the sockets.
func (k *kernel) Close() {
	for _, c := range []*conn{k.reads, k.cuts} {
		if c != nil {
			c.close()
		}
	}
	if k.routes != nil {
		k.routes.Close()
	}
}

// Cut implements Table.
func (k *kernel) Cut(ctx context.Context, filter stale.Filter, isStale func(stale.Flow) bool) (int, error) {
	if k.unfiltered {
		filter = stale.Filter{}
	}
	n, err := k.cut(ctx, filter, isStale)
	if !k.unfiltered && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
		// Linux before 5.8 ignores filters, one in between may refuse a part of them.
		k.unfiltered = true
		return k.Cut(ctx, filter, isStale)
	}
	return n, err
}

func (k *kernel) cut(ctx context.Context, filter stale.Filter, isStale func(stale.Flow) bool) (int, error) {
	batch := &batch{conn: k.cuts, family: k.netFamily()}
	var failed error
	err := k.reads.dump(ctx, getRequest(k.netFamily(), filter), func(message []byte) {
		e, ok := parse(message)
		if ok && isStale(e.flow) && failed == nil {
			failed = batch.add(e)
		}
	})
	if err != nil {
		err = fmt.Errorf("reading the table: %w", err)
	}
	if failed == nil {
		failed = batch.flush()
	}
	return batch.deleted, errors.Join(err, failed)
}

// Addresses implements Table.
func (k *kernel) Addresses() (map[netip.Addr]struct{}, error) {
	list, err := k.routes.AddrList(nil, int(k.netFamily()))
	if err != nil {
		return nil, fmt.Errorf("listing the node's addresses: %w", err)
	}
	out := make(map[netip.Addr]struct{}, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			out[addr.Unmap()] = struct{}{}
		}
	}
	return out, nil
}

func (k *kernel) netFamily() uint8 {
	if k.family == ruleset.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
