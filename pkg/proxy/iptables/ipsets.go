package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// How many addresses a set can have, and for how many it has room at first.
// The kernel makes room when it is needed; most sets never have many.
const (
	maxAddresses   = 1 << 20
	firstAddresses = 64
)

// listHeader asks for sets without their addresses, linux/netfilter/ipset/ip_set.h.
const listHeader = 1 << 2

// CreateIPSets creates those sets that do not exist: of addresses of the family, with
// timeouts. They belong to the network namespace of the calling thread, not to a
// table. The error is a RefusedError for what the kernel does not take.
func (t *Tables) CreateIPSets(_ context.Context, names []string) error {
	family := byte(unix.AF_INET)
	if t.family == ruleset.IPv6 {
		family = unix.AF_INET6
	}
	for _, name := range names {
		data := nl.NewRtAttr(nl.IPSET_ATTR_DATA|int(nl.NLA_F_NESTED), nil)
		for kind, value := range map[uint16]uint32{
			nl.IPSET_ATTR_MAXELEM: maxAddresses, nl.IPSET_ATTR_HASHSIZE: firstAddresses, nl.IPSET_ATTR_TIMEOUT: 0,
		} {
			data.AddChild(&nl.Uint32Attribute{Type: kind | nl.NLA_F_NET_BYTEORDER, Value: value})
		}
		_, err := ipset(nl.IPSET_CMD_CREATE,
			nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(name)),
			nl.NewRtAttr(nl.IPSET_ATTR_TYPENAME, nl.ZeroTerminated("hash:ip")),
			nl.NewRtAttr(nl.IPSET_ATTR_REVISION, nl.Uint8Attr(0)),
			nl.NewRtAttr(nl.IPSET_ATTR_FAMILY, nl.Uint8Attr(family)), data)
		if err != nil {
			return &RefusedError{Program: "ip_set", Line: 0, Text: name, Message: fmt.Sprintf("creating IP set %s: %v", name, err)}
		}
	}
	return nil
}

// DestroyIPSets destroys those sets that no rule uses, and goes on after an error.
func (t *Tables) DestroyIPSets(_ context.Context, names []string) error { return destroyIPSets(names) }

func destroyIPSets(names []string) error {
	var errs []error
	for _, name := range names {
		_, err := ipset(nl.IPSET_CMD_DESTROY, nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(name)))
		if err != nil && !errors.Is(err, unix.Errno(nl.IPSET_ERR_BUSY)) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("destroying IP set %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// ipSets returns the names of Signpost's sets, sorted: of one family, or of both for 0. A kernel
// without IP sets has none.
func ipSets(family ruleset.Family) ([]string, error) {
	messages, err := ipset(nl.IPSET_CMD_LIST, &nl.Uint32Attribute{Type: nl.IPSET_ATTR_FLAGS | nl.NLA_F_NET_BYTEORDER, Value: listHeader})
	if err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing IP sets: %w", err)
	}
	var out []string
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, fmt.Errorf("listing IP sets: %w", err)
		}
		name, of := "", ruleset.IPv4
		for _, a := range attrs {
			switch a.Attr.Type {
			case nl.IPSET_ATTR_SETNAME:
				name = nl.BytesToString(a.Value)
			case nl.IPSET_ATTR_FAMILY:
				if len(a.Value) > 0 && a.Value[0] == unix.AF_INET6 {
					of = ruleset.IPv6
				}
			}
		}
		if strings.HasPrefix(name, ruleset.Prefix) && (family == 0 || family == of) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// ipset sends a request to the kernel.
func ipset(command int, attrs ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(command|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(command))
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0, ResId: 0})
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	for _, a := range attrs {
		req.AddData(a)
	}
	return req.Execute(unix.NETLINK_NETFILTER, 0)
}
