//go:build integration

package names

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// truncation is the name of the difference in how an answer is made to fit into a
// datagram. We leave out the additional records first, and do not call that
// truncated (RFC 2181, 9): nothing is missing of what was asked for. CoreDNS sets
// the TC bit if the last of the additional records is missing, so that clients ask
// again over TCP for what they have. And no datagram is larger than 1232 octets.
const truncation = "truncation"

// truncated compares a reply of ours over UDP with the complete one that CoreDNS
// gives over TCP, when one of both says or may mean that it did not fit. It returns
// what is wrong with ours.
func (w *world) truncated(q question, ours reply) error {
	q.tcp = true
	full, names := w.explain(q, w.coreDNSReply(q))
	want := full.rcode
	tc := slices.Contains(ours.flags, "tc")
	switch {
	case ours.rcode != want:
		return fmt.Errorf("cut: response code %s, want %s", ours.rcode, want)
	case !subset(ours.answer, full.answer) || !subset(ours.additional, full.additional):
		return fmt.Errorf("cut: there are records in it that the complete reply, explained by %v, does not have", names)
	case len(full.answer) > 0 && len(ours.answer) == 0:
		return fmt.Errorf("cut: nothing is left of %d records", len(full.answer))
	case tc != (len(ours.answer) < len(full.answer)):
		return fmt.Errorf("cut: %d of %d records, and the TC bit is %v", len(ours.answer), len(full.answer), tc)
	case !slices.Equal(ours.authority, full.authority):
		return fmt.Errorf("cut: authority %v, want %v", ours.authority, full.authority)
	}
	return nil
}

func subset(some, all []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// mayBeCut reports whether a reply over UDP can be other than the complete one.
func mayBeCut(q question, ours, theirs *dns.Msg) bool {
	return !q.tcp && (ours.Truncated || theirs.Truncated || theirs.Len() > 1232)
}
