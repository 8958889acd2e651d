package claim

import (
	"net/netip"
	"time"
)

// Message is what a node says to all others: these addresses it claims, and no
// other ones.
type Message struct {
	From string
	// Epoch tells one life of a node from its next one, and is higher in that.
	// Number counts the messages of a life, from 1.
	Epoch, Number uint64
	// Leaving: the node ends, and is not to be waited for.
	Leaving bool
	Claims  []Claim
}

// Claim is one address in a Message.
type Claim struct {
	Address netip.Addr
	// Held: the node has it, as far as it knew then.
	Held bool
}

// Reply answers a Message: all that is claimed in it is granted, but for this.
type Reply struct {
	From          string
	Epoch, Number uint64 // those of the Message
	Denied        []Denial
}

// Denial is an address that another node was granted.
type Denial struct {
	Address netip.Addr
	// Holder is that node; empty if the one that denies has just begun, and grants
	// nothing yet.
	Holder string
}

// voter is what a node grants to others, and to itself.
type voter struct {
	// from is when it may grant.
	from   time.Time
	grants map[netip.Addr]grant
	// of are the addresses that each node was granted.
	of map[string]map[netip.Addr]struct{}
}

type grant struct {
	holder string
	until  time.Time
}

// vote grants what can be granted, and takes back what is claimed no longer.
func (v *voter) vote(now time.Time, from string, claims []Claim) []Denial {
	var denied []Denial
	had := v.of[from]
	has := make(map[netip.Addr]struct{}, len(claims))
	for _, c := range claims {
		g, is := v.grants[c.Address]
		switch {
		case now.Before(v.from):
			denied = append(denied, Denial{Address: c.Address})
		case is && g.holder != from && now.Before(g.until):
			denied = append(denied, Denial{c.Address, g.holder})
		default:
			if is && g.holder != from {
				delete(v.of[g.holder], c.Address)
			}
			v.grants[c.Address] = grant{from, now.Add(Term)}
			has[c.Address] = struct{}{}
		}
	}
	for address := range had {
		if _, still := has[address]; !still && v.grants[address].holder == from {
			delete(v.grants, address)
		}
	}
	v.of[from] = has
	return denied
}
