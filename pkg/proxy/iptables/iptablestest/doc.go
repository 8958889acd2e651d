// Package iptablestest is a node's iptables in memory, for tests: a Fake takes
// what iptables-restore takes, refuses what the real one refuses, and lets
// packets run through what came of it.
//
// It executes: a restore is merged into what is there, table by table; a rule
// that leads to a chain that does not exist, the deletion of a chain that a
// rule still leads to, an unknown match or target, are errors, and leave the
// table as it was. Trace then says everything that can happen to a packet that
// starts a connection, with the odds:
//
//	fake := iptablestest.New(ruleset.IPv4)
//	fake.Local = []netip.Addr{netip.MustParseAddr("192.168.1.10")}
//	res := render.Render(ruleset.IPv4, cfg, node, &services)
//	err := fake.Load(res.Set, res.Hooks)
//	fake.Trace(iptablestest.Packet{From: iptablestest.Pod, Proto: "tcp", Src: …, Dst: …})
//	// → 0.50 forward 10.0.0.1:8080
//	//   0.50 forward 10.0.0.2:8080
//
// That the Fake does as the kernel does is tested against the kernel, by the
// tests with the tag netns. It knows the matches and targets that Signpost uses
// and no others. It is for tests only: nothing that goes into the binary may import it.
package iptablestest
