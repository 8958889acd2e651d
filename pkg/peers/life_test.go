package peers

import (
	"testing"
	"time"
)

// TestLife plays what happens to a node, at times in milliseconds, and holds what
// is thought of it in the end.
func TestLife(t *testing.T) {
	type event struct {
		at   int
		what string
	}
	for _, tt := range []struct {
		name   string
		events []event
		at     int
		want   Opinion
	}{
		{"nothing known", nil, 0, Opinion{}},
		{"never heard: a firewall that drops is no death", []event{{0, "probe"}, {1000, "probe"}, {2000, "probe"}, {3000, "probe"}}, 3900, Opinion{}},
		{"answers", []event{{0, "probe"}, {1, "sign"}}, 900, Opinion{State: Alive}},
		{"a probe is under way", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}}, 1999, Opinion{State: Alive}},
		{"one was lost", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}, {2001, "sign"}}, 2500, Opinion{State: Alive}},
		{"two are missing", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}}, 2500, Opinion{State: Silent, Silence: 1500 * time.Millisecond}},
		{"silent for 3 s", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}, {3000, "probe"}}, 4000, Opinion{State: Silent, Silence: 3 * time.Second}},
		{"back", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}, {3000, "probe"}, {3500, "sign"}}, 3600, Opinion{State: Alive}},
		{"answered late", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}, {2100, "sign"}}, 2200, Opinion{State: Alive}},
		{"this process slept after a probe", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}}, 4500, Opinion{State: Silent, Silence: 2 * time.Second}},
		{"this process slept long", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}}, 60_000, Opinion{}},
		{"and has just woken", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {2000, "probe"}, {60_000, "probe"}}, 60_500, Opinion{State: Alive}},
		{"and hears nothing from then on", []event{{0, "probe"}, {1, "sign"}, {1000, "probe"}, {60_000, "probe"}, {61_000, "probe"}, {62_000, "probe"}}, 63_000, Opinion{State: Silent, Silence: 3 * time.Second}},
		{"others have heard it", []event{{0, "probe"}, {100, "vouch"}}, 100, Opinion{State: Silent, Silence: 5 * time.Second}},
		{"others have, and it is still silent", []event{{0, "probe"}, {100, "vouch"}, {1000, "probe"}}, 1100, Opinion{State: Silent, Silence: 6 * time.Second}},
		{"others have, and now it is heard here", []event{{0, "probe"}, {100, "vouch"}, {1000, "probe"}, {1001, "sign"}}, 1100, Opinion{State: Alive}},
		{"what is heard here weighs more than what others say", []event{{0, "probe"}, {1, "sign"}, {100, "vouch"}}, 200, Opinion{State: Alive}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
			var l life
			for _, e := range tt.events {
				switch e.what {
				case "probe":
					l.probed(at(e.at))
				case "sign":
					l.sign()
				case "vouch":
					l.vouched(at(e.at), 5*time.Second)
				}
			}
			if got := l.opinion(at(tt.at)); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
