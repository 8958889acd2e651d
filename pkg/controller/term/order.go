package term

import (
	"hash/fnv"
	"math/bits"
	"strconv"
	"time"
)

const (
	// step is the time between two rounds of candidates, each twice as many as the
	// one before: so thousands are through in a few seconds if the first are dead.
	step = 250 * time.Millisecond
	// spread is the time in which the candidates of a round begin: so that the
	// first has the Lease, and the watch has told the others, before they try.
	spread = 200 * time.Millisecond
)

// place is where a candidate stands in a line that has no keeper: everybody
// sorts the names by a hash that is another one after each change of leader.
type place struct {
	known bool // false: the names of the others are not known
	rank  int  // how many are before it
	// share is in the place of a rank if the others are not known, 0 to 1.
	share float64
}

// placeOf returns where name stands among all, not counting the holder of the Lease.
func placeOf(name, holder string, transitions int, all []string) place {
	mine := score(name, transitions)
	p := place{share: float64(mine) / (1 << 32)}
	for _, other := range all {
		switch other {
		case name:
			p.known = true
		case holder:
		default:
			if s := score(other, transitions); s < mine || s == mine && other < name {
				p.rank++
			}
		}
	}
	return p
}

// score is uniform over the names; fnv alone is not, in its first bits.
func score(name string, transitions int) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name + "/" + strconv.Itoa(transitions)))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return uint32(x >> 32)
}

// delay is how long to wait, once the Lease is free, before trying to take it.
// The first so many candidates try in the first round.
func (p place) delay(candidates int) time.Duration {
	if !p.known {
		return time.Duration(p.share * float64(2*spread))
	}
	round := bits.Len(uint(p.rank/candidates+1)) - 1
	size := candidates << round
	first := size - candidates // of this round
	return time.Duration(round)*step + spread*time.Duration(p.rank-first)/time.Duration(size)
}
