package announce

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

var stranger = frame.MAC{2, 0xff}

// TestProbes: what a place asks, when, and what it makes of answers.
func TestProbes(t *testing.T) {
	const ms = time.Millisecond
	type event struct {
		at     time.Duration
		answer frame.MAC
		want   news
	}
	probe, freed, conflict := news{probe: true}, news{freed: true}, news{conflict: true}
	for name, events := range map[string][]event{
		"nobody answers": {{at: 0, want: probe}, {at: 100 * ms}, {at: 200 * ms, want: probe}, {at: 400 * ms, want: probe}, {at: 600 * ms, want: freed}, {at: time.Hour}},
		"a stranger answers, is told of once, and goes": {
			{at: 0, want: probe}, {at: 200 * ms, answer: stranger, want: probe}, {at: 400 * ms, want: probe}, {at: 600 * ms, want: conflict},
			{at: 10 * time.Second}, {at: 10600 * ms, want: probe}, {at: 10800 * ms, answer: stranger, want: probe}, {at: 11000 * ms, want: probe}, {at: 11200 * ms},
			{at: 21200 * ms, want: probe}, {at: 21400 * ms, want: probe}, {at: 21600 * ms, want: probe}, {at: 21800 * ms, want: freed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			p := &place{next: start, at: []int{1}}
			for _, e := range events {
				if e.answer != (frame.MAC{}) {
					p.heard(start.Add(e.at), e.answer, "eth0", true)
				}
				if got := p.ask(start.Add(e.at)); got != e.want {
					t.Errorf("after %v: %+v, want %+v", e.at, got, e.want)
				}
			}
		})
	}
	unlinked := &place{next: time.Unix(1000, 0)}
	if got := unlinked.ask(time.Unix(2000, 0)); got != (news{}) {
		t.Errorf("at no link: %+v", got)
	}
}

// TestAnnouncements: several at a take-over, then few, and again where a link comes.
func TestAnnouncements(t *testing.T) {
	start := time.Unix(1000, 0)
	p := &place{state: free, at: []int{1}}
	if got := p.look(start, false); got != (news{}) {
		t.Errorf("not held: %+v", got)
	}
	announced := func(from, to time.Duration) (out []time.Duration) {
		for at := from; at < to; at += 10 * time.Millisecond {
			if p.look(start.Add(at), true).announce {
				out = append(out, at-from)
			}
		}
		return out
	}
	if got := p.look(start, true); got != (news{taken: true, announce: true}) {
		t.Errorf("taken over: %+v", got)
	}
	if diff := cmp.Diff(burst()[1:], announced(0, time.Minute)); diff != "" {
		t.Error(diff)
	}
	if got := announced(time.Minute, 3*time.Minute); len(got) != 2 {
		t.Errorf("in two minutes it is announced at %v", got)
	}
	p.placed(start.Add(3*time.Minute), eligible.Address{}, []int{1, 2})
	if diff := cmp.Diff(burst(), announced(3*time.Minute, 4*time.Minute)); diff != "" {
		t.Errorf("with a new link: %s", diff)
	}
	p.placed(start.Add(4*time.Minute), eligible.Address{}, []int{2})
	if got := p.look(start.Add(4*time.Minute), true); got != (news{}) {
		t.Errorf("with a link less: %+v", got)
	}
	if got := p.look(start.Add(4*time.Minute), false); got != (news{lost: true}) {
		t.Errorf("lost: %+v", got)
	}
}

// TestContradiction: at most one in ten seconds, and only of who has the address.
func TestContradiction(t *testing.T) {
	start := time.Unix(1000, 0)
	p := &place{state: free, at: []int{1}}
	if p.heard(start, stranger, "eth0", true) {
		t.Error("contradicted without having it")
	}
	p.held = true
	if p.heard(start, stranger, "eth0", false) {
		t.Error("a node is contradicted")
	}
	for after, want := range []bool{true, false, false, false, false, false, false, false, false, false, true} {
		if got := p.heard(start.Add(time.Duration(after)*time.Second), stranger, "eth0", true); got != want {
			t.Errorf("after %d s: %v", after, got)
		}
	}
}
