//go:build integration

package packets

// difference is a point in which kube-proxy differs from the table on purpose of ours.
type difference struct {
	// why ours is right.
	why string
	// theirs is what kube-proxy does, by its mode; the empty mode is any.
	theirs map[string]string
}

// theirs is what kube-proxy does with a probe.
//
// One difference is everywhere: we refuse TCP with a reset, and kube-proxy refuses everything with
// an ICMP error. Over IPv6 that does not end a TCP connection that is being made, for as long as is
// waited here.
func theirs(p probe, mode, network string, family int) string {
	want := p.want
	if d, ok := differences()[p.from+" "+p.to]; ok {
		if other, ok := d.theirs[mode]; ok {
			want = other
		}
	}
	if want == refused && network == "tcp" && family == 1 {
		want = silence
	}
	return want
}

// onlyFirst reports whether health check ports are answered at the node's first addresses only: where node ports
// are, see differences.
func onlyFirst(mode string) bool { return mode == "nftables" }

// differences are all others that there are, by probe: "from to".
func differences() map[string]difference {
	none := "A cluster IP or port that no Service has is nobody's (KEP-1880 tells the ranges): who asks is told at once. kube-proxy " +
		"lets the packet out of the node, where it is lost, and clients wait until they give up."
	primary := "Without other word, kube-proxy's nftables mode serves node ports at the node's first address only, its iptables mode at all, and so do we: " +
		"nodePortAddresses: [primary] is there for who wants that."
	elsewhere := map[string]string{"nftables": closed}
	return map[string]difference{
		"client web:81":            {none, map[string]string{"iptables": silence}},
		"client nobody":            {none, map[string]string{"iptables": silence, "nftables": silence}},
		"outside port/second":      {primary, elsewhere},
		"node port/second":         {primary, elsewhere},
		"outside portlocal/second": {primary, elsewhere},
		"outside closedempty/balancer": {"Nobody is behind this address, whoever asks: all are told so, as in kube-proxy's iptables mode. " +
			"Its nftables mode looks at the ranges first.", map[string]string{"nftables": silence}},
		"node externalempty/external": {"The node's own processes are told at once that nobody is behind an address from outside, like everybody " +
			"else. kube-proxy's iptables mode forgets the output of the node here, and the packet is lost.", map[string]string{"iptables": silence}},
		"node port/localhost": {"kube-proxy's nftables mode does not serve node ports at 127.0.0.1; its iptables mode does, and so do we, for those who " +
			"have come to count on it.", map[string]string{"nftables": closed}},
	}
}
