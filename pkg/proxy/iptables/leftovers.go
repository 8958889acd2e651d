package iptables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Leftovers are rules of kube-proxy.
type Leftovers struct {
	Backend Backend
	Family  ruleset.Family
	Rules   int
}

// FindLeftovers counts the rules of kube-proxy, of both backends and families as
// far as the programs are there; what has none is left out. It returns what it has found also
// with an error.
func FindLeftovers(ctx context.Context) ([]Leftovers, error) {
	var out []Leftovers
	var errs []error
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			names, err := find(ctx, b, f)
			if err != nil {
				continue // without the program there are no rules of it
			}
			l := Leftovers{Backend: b, Family: f}
			err = saved(ctx, names.save, func(_ ruleset.Table, line string) {
				if rule, ok := strings.CutPrefix(line, "-A KUBE-"); ok && ofKubeProxy(rule) {
					l.Rules++
				}
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("looking for rules of kube-proxy: %w", err))
			}
			if l.Rules > 0 {
				out = append(out, l)
			}
		}
	}
	return out, errors.Join(errs...)
}

// ofKubeProxy reports whether a rule that stands in a chain of this name, less
// "KUBE-", is kube-proxy's. Those chains that lead packets to endpoints or refuse them count;
// KUBE-FIREWALL and KUBE-MARK-DROP are kubelet's as well.
func ofKubeProxy(rule string) bool {
	for _, chain := range []string{"SERVICES ", "NODEPORTS ", "EXTERNAL-SERVICES ", "PROXY-FIREWALL ", "SVC-", "SVL-", "SEP-", "EXT-", "FW-"} {
		if strings.HasPrefix(rule, chain) {
			return true
		}
	}
	return false
}
