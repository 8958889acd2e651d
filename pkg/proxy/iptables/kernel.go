package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// need is something that rules are made of.
type need struct {
	what  string
	table ruleset.Table
	rule  string
	// costs says what is lost without it; empty for what cannot be done without.
	costs string
	// lost takes it out of the Kernel.
	lost func(*render.Kernel)
}

func needs() []need {
	return []need{
		{what: "match tcp", table: ruleset.NAT, rule: "-p tcp -m tcp --dport 1"},
		{what: "match mark", table: ruleset.NAT, rule: "-m mark --mark 0x1/0x1"},
		{what: "match addrtype", table: ruleset.NAT, rule: "-m addrtype --dst-type LOCAL"},
		{what: "match conntrack", table: ruleset.NAT, rule: "-m conntrack --ctstate DNAT"},
		{what: "target MARK", table: ruleset.NAT, rule: "-j MARK --set-xmark 0x1/0x1"},
		{what: "target DNAT", table: ruleset.NAT, rule: "-p tcp -j DNAT --to-destination :1"},
		{what: "target MASQUERADE", table: ruleset.NAT, rule: "-j MASQUERADE"},
		{what: "target REJECT", table: ruleset.Filter, rule: "-p tcp -j REJECT --reject-with tcp-reset"},
		{"match comment", ruleset.NAT, `-m comment --comment "a"`,
			"rules do not say which Service they belong to", func(k *render.Kernel) { k.Comment = false }},
		{"match statistic", ruleset.NAT, "-m statistic --mode random --probability 0.5",
			"all connections of a Service go to one of its endpoints", func(k *render.Kernel) { k.Statistic = false }},
		{"MASQUERADE --random-fully", ruleset.NAT, "-j MASQUERADE --random-fully",
			"masqueraded connections may clash and be delayed", func(k *render.Kernel) { k.RandomFully = false }},
		{"match and target set", ruleset.NAT, "-m set --match-set " + probeSet + " src -j SET --add-set " + probeSet + " src --exist --timeout 1",
			"Services forget which endpoint a client had when it has had more than about 100 of them", func(k *render.Kernel) { k.IPSets = false }},
		{"match recent", ruleset.NAT, "-m recent --name " + probeSet + " --update --seconds 1 --reap",
			"without IP sets too, clients do not keep their endpoints", func(k *render.Kernel) { k.Recent = false }},
		{"match socket", ruleset.Raw, "-p udp -m udp --dport 1 -m socket",
			"queries to the DNS Service can go to other nodes", func(k *render.Kernel) { k.Listeners = false }},
		{"target CT", ruleset.Raw, "-j CT --notrack",
			"queries to the DNS Service can go to other nodes", func(k *render.Kernel) { k.Listeners = false }},
	}
}

// Kernel finds out what the programs and the kernel can do. missing names what
// they cannot, and what that costs. The error names what is missing and cannot be
// done without.
func (t *Tables) Kernel(ctx context.Context) (k render.Kernel, missing []string, err error) {
	k = render.FullKernel()
	k.DropInvalid = !liberal()
	if t.CreateIPSets(ctx, []string{probeSet}) == nil {
		defer func() { err = errors.Join(err, t.DestroyIPSets(ctx, []string{probeSet})) }()
	}
	if t.Check(ctx, probe(needs())) == nil {
		return k, nil, nil
	}
	for _, n := range needs() {
		err := t.Check(ctx, probe([]need{n}))
		_, refused := errors.AsType[*RefusedError](err)
		switch {
		case err == nil:
		case !refused: // a lock, for example: that says nothing of what there is
			return k, nil, fmt.Errorf("finding out whether there is %s: %w", n.what, err)
		case n.lost == nil:
			return k, missing, fmt.Errorf("%s cannot work without %s: %w", t.names.restore, n.what, err)
		default:
			n.lost(&k)
			missing = append(missing, fmt.Sprintf("%s: %s is missing: %s", t.names.restore, n.what, n.costs))
		}
	}
	return k, missing, nil
}

// probeSet is an IP set that is there while the kernel is looked at.
const probeSet = ruleset.Prefix + "PROBE"

// probe returns a restore that uses what is needed.
func probe(needs []need) string {
	const chain = ruleset.Prefix + "PROBE"
	var b strings.Builder
	for _, table := range ruleset.Tables() {
		var rules []string
		for _, n := range needs {
			if n.table == table {
				rules = append(rules, "-A "+chain+" "+n.rule+"\n")
			}
		}
		if len(rules) > 0 {
			fmt.Fprintf(&b, "*%s\n:%s - [0:0]\n%sCOMMIT\n", table, chain, strings.Join(rules, ""))
		}
	}
	return b.String()
}

// Both belong to the network namespace of the thread that opens them.
const (
	liberalFile  = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
	localnetFile = "/proc/sys/net/ipv4/conf/all/route_localnet"
)

// liberal reports whether the kernel takes TCP packets outside the window for
// part of their connection.
func liberal() bool {
	b, err := os.ReadFile(liberalFile)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// RouteLocalnet makes the kernel route packets from and to 127.0.0.0/8, which is what
// NodePorts at 127.0.0.1 need. The rules that keep other machines from using it have
// to be in before.
func RouteLocalnet() error {
	if routesLocalnet() {
		return nil
	}
	if err := os.WriteFile(localnetFile, []byte("1"), 0); err != nil {
		return fmt.Errorf("allowing node ports at localhost: %w", err)
	}
	return nil
}

// CanRouteLocalnet returns the error that RouteLocalnet would, as far as can be
// known without doing it.
func CanRouteLocalnet() error {
	if routesLocalnet() {
		return nil
	}
	f, err := os.OpenFile(localnetFile, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("allowing node ports at localhost: %w", err)
	}
	return f.Close()
}

func routesLocalnet() bool {
	b, err := os.ReadFile(localnetFile)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
