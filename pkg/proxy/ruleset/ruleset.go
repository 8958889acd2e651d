package ruleset

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strings"
)

// Family is an address family. Each has its own tables, and its own Set.
type Family int

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6", as the API spells them.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Has reports whether addr belongs to the family. An IPv4 address mapped into
// IPv6 belongs to neither.
func (f Family) Has(addr netip.Addr) bool {
	if f == IPv6 {
		return addr.Is6() && !addr.Is4In6()
	}
	return addr.Is4()
}

// Bits returns the length of an address of the family.
func (f Family) Bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

// Table is one of the kernel's tables.
type Table string

// The tables that Signpost writes to.
const (
	Raw    Table = "raw"
	NAT    Table = "nat"
	Filter Table = "filter"
)

// Tables returns the tables in the order in which they are sorted. For the order of
// writing see Change.Parts.
func Tables() []Table { return []Table{Raw, NAT, Filter} }

// Prefix starts the name of every chain that belongs to Signpost, and of no
// other: what carries it may be rewritten and deleted.
const Prefix = "SIGNPOST-"

// MaxNameLen is the longest name, in bytes, that iptables takes for a chain.
const MaxNameLen = 28

// HashedName returns a chain name that starts with Prefix and kind and is made
// unique by a hash of text. kind may have up to 4 bytes.
func HashedName(kind, text string) string {
	sum := sha256.Sum256([]byte(text))
	name := Prefix + kind + base32.StdEncoding.EncodeToString(sum[:])
	return name[:MaxNameLen]
}

// Rule is one rule: what follows "-A CHAIN " in the text of a restore.
type Rule string

// Key identifies a chain within a family.
type Key struct {
	Table Table
	Name  string
}

// Own reports whether the chain belongs to Signpost.
func (k Key) Own() bool { return strings.HasPrefix(k.Name, Prefix) }

// Compare orders keys by table, in the order of Tables, then by name.
func (k Key) Compare(o Key) int {
	if k.Table != o.Table {
		order := Tables()
		return cmp.Compare(slices.Index(order, k.Table), slices.Index(order, o.Table))
	}
	return strings.Compare(k.Name, o.Name)
}

// Chain is a chain with its rules. Immutable once it is part of a Set.
type Chain struct {
	Key
	Rules []Rule
	// IPSets are the names of the IP sets that the rules use. They are of type
	// hash:ip with timeouts, of the family of the rules, and have to exist before the chain can be written.
	IPSets []string
}

// Equal reports whether the rules are the same, word for word. Both may be nil.
func (c *Chain) Equal(o *Chain) bool {
	return c == o || c != nil && o != nil && slices.Equal(c.Rules, o.Rules)
}

// Hook is a rule in one of the kernel's own chains that leads into one of
// Signpost's. A Set does not contain them, as those chains belong to everybody:
// they are inserted one by one and never rewritten.
type Hook struct {
	// Chain is a built-in chain, such as nat PREROUTING.
	Chain Key
	// Match is what a packet must be to be led away; mostly empty.
	Match Rule
	// Target is a chain of Signpost in the same table.
	Target string
}

// Rule returns the rule that stands in the built-in chain.
func (h Hook) Rule() Rule {
	if h.Match == "" {
		return Rule("-j " + h.Target)
	}
	return h.Match + Rule(" -j "+h.Target)
}

// Jump is a rule in somebody else's chain that leads to one of Signpost's: a hook
// of this version, of an earlier one, or something that nobody has foreseen.
type Jump struct {
	From   Key
	Target string
	// Rule is the rule as the program that lists it writes it.
	Rule Rule
}

// Existing is what is found of Signpost on a node.
type Existing struct {
	// Set has Signpost's own chains, with their rules as a program lists them.
	Set Set
	// Jumps are rules in other people's chains that lead to them.
	Jumps []Jump
	// IPSets are the names of the IP sets of the family.
	IPSets []string
}

// Stale returns the jumps that are none of hooks.
func (e *Existing) Stale(hooks []Hook) []Jump {
	var out []Jump
	for _, j := range e.Jumps {
		if !slices.ContainsFunc(hooks, j.is) {
			out = append(out, j)
		}
	}
	return out
}

// Hooked returns those of hooks that are in place.
func (e *Existing) Hooked(hooks []Hook) []Hook {
	var out []Hook
	for _, h := range hooks {
		if slices.ContainsFunc(e.Jumps, func(j Jump) bool { return j.is(h) }) {
			out = append(out, h)
		}
	}
	return out
}

// is reports whether the jump is the hook, however the program has written it.
func (j Jump) is(h Hook) bool {
	return h.Chain == j.From && h.Target == j.Target && Canonical(h.Rule()) == Canonical(j.Rule)
}
