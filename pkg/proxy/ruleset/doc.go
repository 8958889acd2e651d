// Package ruleset holds the words for iptables rules: tables, chains and rules
// as values, the Set of all chains that a node should have in one address
// family, and the difference of two Sets as text for iptables-restore.
//
// A Set is IMMUTABLE, as are the Chains in it: a change makes a new Set that
// shares all that did not change, so that comparing two of them costs what
// differs and not what there is.
//
// The package runs nothing, reads nothing and logs nothing, and imports nothing
// of Signpost: render makes Sets from Services, pkg/proxy decides when to apply
// them, pkg/proxy/iptables runs the programs. It does not parse rules back,
// because rules do not survive the round trip through the kernel unchanged; the
// only foreign text it can read is a line split into words (see Fields).
package ruleset
