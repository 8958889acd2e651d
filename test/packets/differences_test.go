//go:build integration

package packets

// difference is a point in which kube-proxy differs from the table on purpose of ours.
type difference struct {
	// why ours is right.
	why string
	// theirs is what kube-proxy does, by its mode; the empty mode is any.
	theirs map[string]string
}

// differences are all that there are, by probe: "from to".
func differences() map[string]difference {
	none := "A cluster IP or port that no Service has is nobody's (KEP-1880 tells the ranges): who asks is told at once. kube-proxy's " +
		"iptables mode lets the packet out of the node, where it is lost, and clients wait until they give up."
	return map[string]difference{
		"client web:81": {none, map[string]string{"iptables": silence}},
		"client nobody": {none, map[string]string{"iptables": silence}},
	}
}
