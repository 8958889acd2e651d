//go:build integration

package packets

import (
	"net/netip"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/netlab"
)

// checkSCTP sends packets that ask for an association, and sees at which pods they arrive.
// Not every kernel speaks SCTP, but each translates it.
func (r *rig) checkSCTP() {
	r.t.Helper()
	for _, p := range []struct{ from, to, want string }{
		{"client", "sctp", "a b c"}, {"outside", "sctp", "a b c"}, {"outside", "sctp/node", "a b c"}, {"client", "sctp/node", "a b c"},
	} {
		for family := range 2 {
			if got := r.arrivals(r.place(p.from), r.address(p.to, family), family); got != p.want {
				r.t.Errorf("SCTP from %s to %s, IPv%d arrives at %q, want %q", p.from, p.to, 4+2*family, got, p.want)
			}
		}
	}
}

// arrivals returns the names of the pods that packets to an address arrive at.
func (r *rig) arrivals(from *netlab.Namespace, to netip.AddrPort, family int) string {
	r.t.Helper()
	watches := map[string]*netlab.SCTPWatch{}
	for _, name := range []string{"a", "b", "c"} {
		pod := r.Pod(name)
		w, err := pod.WatchSCTP(pod.Addrs[family])
		if err != nil {
			r.t.Fatal(err)
		}
		defer w.Close()
		watches[name] = w
	}
	for range 40 {
		r.sent++
		if err := from.SendSCTP(20_000+r.sent, to); err != nil {
			r.t.Fatal(err)
		}
	}
	var seen []string
	for _, name := range []string{"a", "b", "c"} {
		_, port, err := watches[name].Next(200 * time.Millisecond)
		if err == nil && port != 8080 {
			r.t.Errorf("SCTP to %s arrives at port %d of %s, want 8080", to, port, name)
		}
		if err == nil {
			seen = append(seen, name)
		}
	}
	return strings.Join(seen, " ")
}
