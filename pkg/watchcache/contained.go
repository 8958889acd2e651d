package watchcache

import (
	"strconv"
	"sync"
)

// contained knows, for each Snapshot, which versions of EndpointSlices it has in
// it: all up to one, since a watch tells them in their order. It is no field of
// the Snapshot because most often the version grows and nothing else does, which
// is no reason to wake anybody up. It is safe for concurrent use.
type contained struct {
	mu    sync.Mutex
	rungs []rung // ascending in both
}

// rung says that the Snapshot of a generation, and all after it, have all slices
// in them up to a version.
type rung struct{ generation, version uint64 }

// maxRungs bounds what is kept while nobody asks.
const maxRungs = 1024

// climb adds a rung.
func (c *contained) climb(generation, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.rungs)
	switch {
	case n > 0 && c.rungs[n-1].version >= version:
		return
	case n > 0 && c.rungs[n-1].generation == generation:
		c.rungs[n-1].version = version
		return
	case n == maxRungs:
		// Between the first one, which is what is being asked for, and the next one
		// less is claimed than could be.
		c.rungs = append(c.rungs[:1], c.rungs[2:]...)
	}
	c.rungs = append(c.rungs, rung{generation, version})
}

// fall is like climb, but for a server whose versions have begun anew, as when it
// was restored from a backup.
func (c *contained) fall(generation, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.rungs); n > 0 && c.rungs[n-1].version > version {
		c.rungs = append(c.rungs[:0], rung{generation, version})
	}
}

// at returns the version for a generation, or 0 if nothing can be said. It may
// forget what there is of earlier generations.
func (c *contained) at(generation uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := len(c.rungs) - 1
	for i >= 0 && c.rungs[i].generation > generation {
		i--
	}
	if i < 0 {
		return 0
	}
	version := c.rungs[i].version
	c.rungs = append(c.rungs[:0], c.rungs[i:]...)
	return version
}

// versionOf reads a resource version, which is a number that grows with each
// write (KEP-5504). Of a server that has others nothing is known: 0.
func versionOf(text string) uint64 {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return v
}
