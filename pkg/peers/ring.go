package peers

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// watched is how many nodes each node probes, and so by how many each is probed.
const watched = 3

// ring is all nodes in an order that every node finds for itself and that has
// nothing to do with their names: machines of one rack, which die together, are
// as a rule called one after the other.
type ring []string

func newRing(nodes []string) ring {
	type place struct {
		hash uint64
		name string
	}
	places := make([]place, 0, len(nodes))
	for _, n := range nodes {
		places = append(places, place{hash(n), n})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.name, b.name))
	})
	out := make(ring, 0, len(places))
	for _, p := range places {
		out = append(out, p.name)
	}
	return slices.Compact(out)
}

// hash is FNV-1a with its bits spread, as it leaves those of similar names alike.
func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// after returns the nodes that this one probes, and before those that probe it:
// at most watched, none if it is not on the ring.
func (r ring) after(node string) []string  { return r.walk(node, 1) }
func (r ring) before(node string) []string { return r.walk(node, len(r)-1) }

func (r ring) walk(node string, step int) []string {
	at := slices.Index(r, node)
	if at < 0 {
		return nil
	}
	var out []string
	for range min(watched, len(r)-1) {
		at = (at + step) % len(r)
		out = append(out, r[at])
	}
	return out
}
