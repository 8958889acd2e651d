// Package prober checks external backends of Services, on every node, as far as
// somebody asks for it:
//
//	informers ──► what annotations declare, and slices of ours have ──► targets
//	Finding(key) ──► checks that target from now on ──► what was found so far
//
// Who asks is the leader, of this node or of another one. It says which node checks
// what merely by asking it. A target that nobody has asked about for a while is not
// checked any more. Only what is declared in the cluster is ever checked, and only
// as often as declared: whoever can ask can do no more than that.
//
// It must not import the other wings (proxy, dns), nor peers, which carries the
// questions: pkg/daemon joins them.
package prober
