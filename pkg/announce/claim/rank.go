package claim

import (
	"net/netip"

	"github.com/signpost-dev/signpost/pkg/rendezvous"
)

// Rank returns nodes in the order in which they should have an address. Without
// one of them the order of the others is the same, and each is the first one for
// about as many addresses.
func Rank(address netip.Addr, nodes []string) []string {
	return rendezvous.Rank(address.String(), nodes)
}
