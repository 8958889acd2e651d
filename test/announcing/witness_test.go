package announcing

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// TestMoves plays answers, one each 10 ms, by the name of who gives them.
func TestMoves(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * 10 * time.Millisecond) }
	a, b, c := frame.MAC{'a'}, frame.MAC{'b'}, frame.MAC{'c'}
	for answers, want := range map[string][]Move{
		"":         nil,
		"aaa":      nil,
		"aaa..bbb": {{From: a, To: b, Last: at(2), First: at(5)}},
		"aabbabb":  {{From: a, To: b, Last: at(1), First: at(2), Double: 20 * time.Millisecond}},
		"aababab":  {{From: a, To: b, Last: at(1), First: at(2), Double: 30 * time.Millisecond}},
		"aabba":    {{From: a, To: b, Last: at(1), First: at(2), Double: 20 * time.Millisecond}},
		"aabbacc":  {{From: a, To: b, Last: at(1), First: at(2), Double: 20 * time.Millisecond}, {From: a, To: c, Last: at(4), First: at(5)}},
		"aa.bb.cc": {{From: a, To: b, Last: at(1), First: at(3)}, {From: b, To: c, Last: at(4), First: at(6)}},
	} {
		var heard []Answer
		for i, who := range answers {
			if who != '.' {
				heard = append(heard, Answer{At: at(i), MAC: frame.MAC{byte(who)}})
			}
		}
		if diff := cmp.Diff(want, Moves(heard)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", answers, diff)
		}
	}
}
