package iptables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Detect returns the backend to use: the one that is wanted ("nft" or "legacy"),
// or for "auto" the one that this node already uses:
//
//   - the one that holds chains of Signpost, so that a restart adopts them;
//   - the one in which kubelet has left its hint (KEP-3178);
//   - the one with more rules, as everybody on a node should use the same;
//   - nft.
//
// That is what the iptables-wrapper of the kube-proxy image does, Signpost's own
// chains aside. The error for a backend whose programs are missing is a
// MissingProgramError.
func Detect(ctx context.Context, want string) (Backend, error) {
	switch want {
	case string(NFT), string(Legacy):
		b := Backend(want)
		_, err := find(ctx, b, ruleset.IPv4)
		return b, err
	case "auto", "":
	default:
		return "", fmt.Errorf("backend %q is none of auto, nft, legacy", want)
	}
	nft, nftErr := survey(ctx, NFT)
	legacy, legacyErr := survey(ctx, Legacy)
	switch {
	case nftErr != nil && legacyErr != nil:
		return "", errors.Join(nftErr, legacyErr)
	case legacyErr != nil:
		return NFT, nil
	case nftErr != nil:
		return Legacy, nil
	case nft.own != legacy.own:
		return choose(nft.own), nil
	case nft.hint != legacy.hint:
		return choose(nft.hint), nil
	}
	return choose(nft.rules >= legacy.rules), nil
}

func choose(nft bool) Backend {
	if nft {
		return NFT
	}
	return Legacy
}

// traces is what speaks for a backend.
type traces struct {
	own, hint bool
	rules     int
}

// survey looks for traces in the IPv4 tables of a backend.
func survey(ctx context.Context, b Backend) (traces, error) {
	var out traces
	p, err := find(ctx, b, ruleset.IPv4)
	if err != nil {
		return out, err
	}
	err = saved(ctx, p.save, func(_ ruleset.Table, l string) {
		switch {
		case strings.HasPrefix(l, "-"):
			out.rules++
		case strings.HasPrefix(l, ":"+ruleset.Prefix):
			out.own = true
		case strings.HasPrefix(l, ":KUBE-IPTABLES-HINT "), strings.HasPrefix(l, ":KUBE-KUBELET-CANARY "):
			out.hint = true
		}
	})
	return out, err
}
