package rendezvous

import (
	"hash/fnv"
	"slices"
	"strings"
)

// Rank returns nodes in the order in which a key should fall to them. Without one
// of them the order of the others is the same, and each is the first one for about
// as many keys.
func Rank(key string, nodes []string) []string {
	type place struct {
		score uint64
		name  string
	}
	places := make([]place, 0, len(nodes))
	for _, name := range nodes {
		places = append(places, place{score(key, name), name})
	}
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	out := make([]string, 0, len(places))
	for _, p := range places {
		out = append(out, p.name)
	}
	return out
}

// score is FNV-1a with its bits spread, as it leaves those of similar names alike.
func score(key, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node + "|" + key))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
