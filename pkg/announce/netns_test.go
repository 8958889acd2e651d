//go:build netns

package announce_test

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
	"github.com/signpost-dev/signpost/test/announcing"
)

func TestMain(m *testing.M) {
	announcing.Be()
	os.Exit(m.Run())
}

// town is three nodes on a link with a witness.
type town struct {
	*testing.T
	*announcing.Rig
}

func newTown(t *testing.T, addresses int) *town {
	rig, err := announcing.NewRig([]string{"a", "b", "c"}, announcing.Addresses(addresses), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	rig.Verbose = testing.Verbose()
	t.Cleanup(func() {
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	})
	return &town{t, rig}
}

func (w *town) start(names ...string) {
	w.Helper()
	for _, name := range names {
		if err := w.Start(name); err != nil {
			w.Fatal(err)
		}
	}
}

// within waits until ok, and returns how long that took.
func (w *town) within(what string, ok func() bool) {
	w.Helper()
	const limit = 20 * time.Second
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > limit {
			w.Fatalf("not within %v: %s; now %v", limit, what, w.Owners())
		}
	}
}

// owners waits until each address has an owner, and returns them.
func (w *town) owners() (owners map[netip.Addr]string) {
	w.Helper()
	w.within("all have an owner", func() bool {
		owners = w.Owners()
		return announcing.Owned(owners)
	})
	return owners
}

// stays holds that for a while nobody else answers for an address than did last, and
// that somebody does in the end.
func (w *town) stays(d time.Duration, what string) {
	w.Helper()
	w.Witness.Forget()
	time.Sleep(d)
	for _, a := range w.Addresses {
		for _, m := range announcing.Moves(w.Witness.Heard(a)) {
			w.Errorf("%s, but %v went from %s to %s", what, a, w.Name(m.From), w.Name(m.To))
		}
	}
	w.owners()
}

// never holds that in the record no two nodes had an address at a time.
func (w *town) never() {
	w.Helper()
	for _, a := range w.Addresses {
		for _, m := range announcing.Moves(w.Witness.Heard(a)) {
			w.Logf("%v went from %s to %s, with nobody for %v", a, w.Name(m.From), w.Name(m.To), m.First.Sub(m.Last).Round(time.Millisecond))
			if m.Double > 0 {
				w.Errorf("%v had two owners for %v: %s and %s", a, m.Double, w.Name(m.From), w.Name(m.To))
			}
		}
	}
}

// TestEachAddressIsAnsweredByOne: of both families, and by more than one node in
// all; and where one node fails, in whatever way, the others answer, and keep what
// they have when it is back.
func TestEachAddressIsAnsweredByOne(t *testing.T) {
	w := newTown(t, 12)
	w.start("a", "b", "c")
	w.owners()
	w.stays(2*time.Second, "nothing happens")
	owners := w.owners()
	if names := slices.Sorted(maps.Values(owners)); len(slices.Compact(names)) < 2 {
		t.Errorf("all are with one node: %v", owners)
	}
	for _, fault := range announcing.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			w := &town{t, w.Rig}
			before := w.owners()
			victim := before[w.Addresses[0]]
			w.Witness.Forget()
			if err := w.Do(t.Context(), fault, victim); err != nil {
				t.Fatal(err)
			}
			w.within("others answer", func() bool { return announcing.Owned(w.Owners(), victim) })
			time.Sleep(2 * time.Second)
			w.never()
			for a, owner := range before {
				if moves := announcing.Moves(w.Witness.Heard(a)); owner != victim && len(moves) > 0 {
					t.Errorf("%v went from %s to %s, and %s has failed", a, owner, w.Name(moves[0].To), victim)
				}
			}
			if err := w.Undo(t.Context(), fault, victim); err != nil {
				t.Fatal(err)
			}
			w.stays(5*time.Second, "the node is back")
		})
	}
}

// TestStranger: what another host of the link has, nodes do not announce, and they
// say whose it is; they do as soon as it has gone.
func TestStranger(t *testing.T) {
	w := newTown(t, 4)
	stranger := w.Segment.Host(announcing.Stranger)
	addr := func(what string) {
		for _, a := range w.Addresses[:2] {
			if _, err := stranger.Command(t.Context(), "", "ip", "addr", what, netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0", "nodad"); err != nil {
				t.Fatal(err)
			}
		}
	}
	addr("add")
	asker, err := announcing.NewAsker(stranger, func(announcing.Answer) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := asker.Close(); err != nil {
			t.Error(err)
		}
	}()
	w.start("a", "b", "c")
	w.within("the stranger's are left to it, the others are announced", func() bool {
		owners := w.Owners()
		return len(owners[w.Addresses[2]]) == 1 && len(owners[w.Addresses[3]]) == 1
	})
	w.within("all nodes say so", func() bool {
		for _, p := range w.Processes {
			conflicts := map[netip.Addr]bool{}
			for _, s := range p.Said() {
				if s.Conflict != "" {
					conflicts[s.Address] = true
				}
			}
			if !conflicts[w.Addresses[0]] || !conflicts[w.Addresses[1]] || len(conflicts) != 2 {
				return false
			}
		}
		return true
	})
	w.stays(2*time.Second, "no node answers for the stranger's")
	addr("del")
	w.within("all are announced", func() bool {
		return announcing.Owned(w.Owners()) && len(w.Owner(w.Addresses[0])) == 1 && len(w.Owner(w.Addresses[1])) == 1
	})

	t.Log("a stranger that comes later is contradicted")
	for range 3 {
		if err := asker.Claim(w.Addresses[0]); err != nil {
			t.Fatal(err)
		}
	}
	w.within("the owner has announced it again", func() bool {
		heard := w.Witness.Heard(w.Addresses[0])
		last := slices.IndexFunc(heard, func(a announcing.Answer) bool { return len(w.Name(a.MAC)) > 1 && !a.Asked && a.MAC != (frame.MAC{}) })
		return last >= 0 && slices.ContainsFunc(heard[last:], func(a announcing.Answer) bool { return !a.Asked && len(w.Name(a.MAC)) == 1 })
	})
}

// TestAddressOfANode: what a node has as an address of its own nobody announces, nor
// does that node.
func TestAddressOfANode(t *testing.T) {
	w := newTown(t, 4)
	for _, a := range w.Addresses[:2] {
		if _, err := w.Segment.Host("b").Command(t.Context(), "", "ip", "addr", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0", "nodad"); err != nil {
			t.Fatal(err)
		}
	}
	w.start("a", "b", "c")
	w.within("a and c say so", func() bool {
		for _, name := range []string{"a", "c"} {
			conflicts := 0
			for _, s := range w.Processes[name].Said() {
				if s.Conflict != "" {
					conflicts++
				}
			}
			if conflicts != 2 {
				return false
			}
		}
		return true
	})
	w.within("all have an owner", func() bool {
		return announcing.Owned(w.Owners()) && w.Owner(w.Addresses[0]) == "b" && w.Owner(w.Addresses[1]) == "b"
	})
	w.stays(2*time.Second, "b has its own")
	for name, p := range w.Processes {
		for _, s := range p.Said() {
			if s.Conflict == "" && (s.Address == w.Addresses[0] || s.Address == w.Addresses[1]) {
				t.Errorf("%s has announced %v", name, s.Address)
			}
		}
	}
}

// TestAddressesComeAndGo: one that is not to be announced any more is not answered
// for, at once; one that is new is.
func TestAddressesComeAndGo(t *testing.T) {
	w := newTown(t, 6)
	w.start("a", "b", "c")
	w.owners()
	for name, p := range w.Processes {
		n := w.Node(name)
		n.Addresses = n.Addresses[:3]
		if err := p.Tell(n); err != nil {
			t.Fatal(err)
		}
	}
	w.within("three are left", func() bool {
		for i, a := range w.Addresses {
			if (w.Owner(a) != "") != (i < 3) {
				return false
			}
		}
		return true
	})
	w.Witness.Forget()
	for name, p := range w.Processes {
		if err := p.Tell(w.Node(name)); err != nil {
			t.Fatal(err)
		}
	}
	w.owners()
	w.never()

	t.Log("one node may not have them any more: those of it go to the others")
	w.Witness.Forget()
	n := w.Node("a")
	n.Addresses = nil
	if err := w.Processes["a"].Tell(n); err != nil {
		t.Fatal(err)
	}
	w.within("b and c have all", func() bool { return announcing.Owned(w.Owners(), "a") })
	w.never()
}
