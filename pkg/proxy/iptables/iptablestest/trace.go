package iptablestest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Origin is where a packet comes from. The rules tell only Node from the others;
// the others are told apart by their addresses.
type Origin int

// The origins.
const (
	Pod     Origin = iota // a pod of this node
	Outside               // another machine
	Node                  // a process of the node itself
)

// State is what connection tracking thinks of a packet.
type State string

// The states. The empty one is taken for StateNew.
const (
	StateNew         State = "NEW"
	StateEstablished State = "ESTABLISHED"
	StateRelated     State = "RELATED"
	StateInvalid     State = "INVALID"
	StateUntracked   State = "UNTRACKED"
)

// Packet is a packet to trace.
type Packet struct {
	From Origin
	// Proto is tcp, udp or sctp.
	Proto    string
	Src, Dst netip.AddrPort
	// In is the interface that the packet comes from; empty for one of the node.
	In    string
	State State
	// Mark is the mark that the packet has already.
	Mark uint32
}

// Verdict is what becomes of a packet.
type Verdict string

// The verdicts.
const (
	Forward Verdict = "forward" // leaves the node
	Deliver Verdict = "deliver" // goes to a process of the node
	Reject  Verdict = "reject"
	Drop    Verdict = "drop"
)

// Outcome is one thing that can happen to a packet.
type Outcome struct {
	Verdict Verdict
	// Dst is where the packet goes in the end.
	Dst netip.AddrPort
	// Translated says that Dst is not what the packet had.
	Translated bool
	// Masqueraded says that the packet leaves with an address of the node.
	Masqueraded bool
	// Untracked says that connection tracking does not see the packet.
	Untracked bool
	// Odds is how likely it is, 0 to 1.
	Odds float64
	// Mark is the mark that the packet has in the end.
	Mark uint32
	// Learned are the IP sets and recent lists that the source was put into, each
	// followed by a semicolon. See Fake.Remember.
	Learned string
}

// String returns such as "0.50 forward 10.0.0.1:8080 masqueraded".
func (o Outcome) String() string {
	out := fmt.Sprintf("%.2f %s", o.Odds, o.Verdict)
	if o.Verdict == Forward || o.Verdict == Deliver {
		out += " " + o.Dst.String()
	}
	if o.Masqueraded {
		out += " masqueraded"
	}
	if o.Untracked {
		out += " untracked"
	}
	return out
}

// Outcomes are all the things that can happen to a packet.
type Outcomes []Outcome

// String returns one outcome per line, sorted by destination.
func (o Outcomes) String() string {
	var b strings.Builder
	for _, x := range o {
		b.WriteString(x.String() + "\n")
	}
	return b.String()
}

// packet is a packet on its way.
type packet struct {
	Packet
	fake        *Fake
	mark        uint32
	translated  bool
	masqueraded bool
	untracked   bool
	learned     []string
	// choices are the ways to go at random matches; odds is how likely they are.
	choices []bool
	taken   int
	odds    float64
}

// Trace returns everything that can happen to p, like things counted together,
// sorted by verdict and destination. It panics at a packet of the other family.
func (f *Fake) Trace(p Packet) Outcomes {
	if !f.family.Has(p.Dst.Addr()) || !f.family.Has(p.Src.Addr()) {
		panic(fmt.Sprintf("iptablestest: %v → %v is no packet of %v", p.Src, p.Dst, f.family))
	}
	var out Outcomes
	// Each pass goes another way at the last random match that has one left.
	for todo := [][]bool{nil}; len(todo) > 0; {
		pk := &packet{Packet: p, fake: f, mark: p.Mark, choices: todo[len(todo)-1], odds: 1}
		todo = todo[:len(todo)-1]
		given := len(pk.choices)
		o := pk.run()
		for i := given; i < len(pk.choices); i++ {
			todo = append(todo, append(slices.Clone(pk.choices[:i]), !pk.choices[i]))
		}
		if pk.odds > 0 {
			out = out.add(o)
		}
	}
	slices.SortFunc(out, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.Verdict, b.Verdict), a.Dst.Compare(b.Dst), cmp.Compare(a.Odds, b.Odds))
	})
	return out
}

func (o Outcomes) add(x Outcome) Outcomes {
	odds := x.Odds
	x.Odds = 0
	for i := range o {
		same := o[i]
		same.Odds = 0
		if same == x {
			o[i].Odds += odds
			return o
		}
	}
	x.Odds = odds
	return append(o, x)
}

// choose goes one way at a random match.
func (pk *packet) choose(odds float64) bool {
	if pk.taken == len(pk.choices) {
		pk.choices = append(pk.choices, true)
	}
	yes := pk.choices[pk.taken]
	pk.taken++
	if yes {
		pk.odds *= odds
	} else {
		pk.odds *= 1 - odds
	}
	return yes
}

func (pk *packet) state() State {
	switch {
	case pk.untracked:
		return StateUntracked
	case pk.State == "":
		return StateNew
	}
	return pk.State
}

// run takes the packet through the kernel's hooks.
func (pk *packet) run() Outcome {
	verdict := pk.route()
	return Outcome{
		Verdict: verdict, Dst: pk.Dst, Translated: pk.translated, Masqueraded: pk.masqueraded,
		Untracked: pk.untracked, Odds: pk.odds, Mark: pk.mark, Learned: pk.notes(),
	}
}

func (pk *packet) notes() string {
	var b strings.Builder
	slices.Sort(pk.learned)
	for _, l := range slices.Compact(pk.learned) {
		b.WriteString(l + ";")
	}
	return b.String()
}

// learn puts the source into a set. It is there for the rest of this packet's way;
// Trace leaves the Fake as it was.
func (pk *packet) learn(set string) { pk.learned = append(pk.learned, set) }

func (pk *packet) knows(set string) bool {
	return slices.Contains(pk.learned, set) || pk.fake.clients[set][pk.Src.Addr()]
}

// Remember makes what p has taught the Fake, if it was o that happened to p, known to the packets
// that follow.
func (f *Fake) Remember(p Packet, o Outcome) {
	for set := range strings.SplitSeq(strings.TrimSuffix(o.Learned, ";"), ";") {
		if f.clients[set] == nil {
			f.clients[set] = map[netip.Addr]bool{}
		}
		f.clients[set][p.Src.Addr()] = true
	}
}

func (pk *packet) route() Verdict {
	if pk.From == Node {
		if v := pk.hooks(ruleset.Raw, ruleset.NAT, ruleset.Filter)("OUTPUT"); v != "" {
			return v
		}
		if v := pk.hooks(ruleset.NAT)("POSTROUTING"); v != "" {
			return v
		}
		if !pk.fake.local(pk.Dst.Addr()) {
			return Forward
		}
		// It comes in again by the loopback. It has its connection, so that
		// nat is not asked again.
		return cmp.Or(pk.hooks(ruleset.Filter)("INPUT"), Deliver)
	}
	if v := pk.hooks(ruleset.Raw, ruleset.NAT)("PREROUTING"); v != "" {
		return v
	}
	if pk.fake.local(pk.Dst.Addr()) {
		return cmp.Or(pk.hooks(ruleset.Filter)("INPUT"), Deliver)
	}
	return cmp.Or(pk.hooks(ruleset.Filter)("FORWARD"), pk.hooks(ruleset.NAT)("POSTROUTING"), Forward)
}

// hooks returns a function that runs the chain of a name in each of tables, until one
// of them decides. Only what starts a connection gets to see nat.
func (pk *packet) hooks(tables ...ruleset.Table) func(string) Verdict {
	return func(name string) Verdict {
		for _, t := range tables {
			if t == ruleset.NAT && pk.state() != StateNew {
				continue
			}
			if v := pk.hook(t, name); v != "" {
				return v
			}
		}
		return ""
	}
}

// hook runs a built-in chain; "" lets the packet go on.
func (pk *packet) hook(t ruleset.Table, name string) Verdict {
	v, decided := pk.walk(t, name)
	if !decided && pk.fake.tables[t][name].policy == "DROP" {
		return Drop
	}
	return v
}

// walk runs a chain. decided says that the packet is through with the table.
func (pk *packet) walk(t ruleset.Table, name string) (v Verdict, decided bool) {
	for _, r := range pk.fake.tables[t][name].rules {
		if !pk.matches(r) {
			continue
		}
		if !r.terminal() {
			if v, decided = pk.walk(t, r.target); decided || r.goTo {
				return v, decided
			}
			continue
		}
		switch r.target {
		case "RETURN":
			return "", false
		case "ACCEPT":
			return "", true
		case "DROP":
			return Drop, true
		case "REJECT":
			return Reject, true
		case "MASQUERADE":
			pk.masqueraded = true
			return "", true
		case "DNAT":
			to := netip.MustParseAddrPort(r.args["--to-destination"])
			pk.translated = to != pk.Dst
			pk.Dst = to
			return "", true
		case "MARK":
			mark, mask, _ := markAndMask(r.args["--set-xmark"])
			pk.mark = pk.mark&^mask ^ mark
		case "SET":
			pk.learn(r.args["--add-set"])
		case "CT":
			pk.untracked = true
		}
	}
	return "", false
}

func (pk *packet) matches(r *rule) bool {
	return !slices.ContainsFunc(r.matches, func(m match) bool { return !m(pk) })
}

func (pk *packet) hasSocket() bool {
	return slices.Contains(pk.fake.Sockets, Socket{Proto: pk.Proto, Addr: pk.Dst})
}

func (f *Fake) local(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(f.Local, a) }
