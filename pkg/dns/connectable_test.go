package dns

import (
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
)

// TestNamesWaitForTheirRules goes through the life of a Service's address.
func TestNamesWaitForTheirRules(t *testing.T) {
	begin := time.Unix(1000, 0)
	name := model.Name{Namespace: "default", Name: "new"}
	var generation uint64
	snapshot := func(m model.ServiceMap) *model.Snapshot {
		generation++
		return &model.Snapshot{Generation: generation, Services: m}
	}
	with := func(m model.ServiceMap, s *model.Service) model.ServiceMap {
		return m.With(map[model.Name]*model.Service{name: s})
	}
	service := func(headless bool, ips ...string) *model.Service {
		return &model.Service{Name: name, ClusterIPs: parseAddrs(ips...), Headless: headless}
	}
	c := connectable{patience: time.Second}
	first := snapshot(model.ServiceMap{})
	if s, again := c.next(first, 0, begin); s != first || !again.IsZero() {
		t.Error("the first Snapshot has to be answered from whatever the rules are")
	}

	headless := snapshot(with(model.ServiceMap{}, service(true)))
	if s, _ := c.next(headless, 0, begin); s != headless {
		t.Error("a headless Service has nothing to wait for")
	}
	added := snapshot(with(model.ServiceMap{}, service(false, "10.96.0.1")))
	s, again := c.next(added, first.Generation, begin)
	if got := s.Services.Get(name); got != nil || s.Generation != first.Generation || !again.Equal(begin.Add(c.patience)) || c.held != 1 {
		t.Errorf("without rules for it: %+v of generation %d until %v", got, s.Generation, again)
	}
	if s, again := c.next(added, added.Generation, begin); s != added || !again.IsZero() || c.held != 0 {
		t.Error("its rules are in, and it is not there")
	}

	changed := snapshot(with(added.Services, service(false, "10.96.0.2")))
	if s, _ := c.next(changed, added.Generation, begin); s.Services.Get(name) != added.Services.Get(name) {
		t.Error("another address is answered before its rules are in")
	}
	if s, _ := c.next(changed, added.Generation, begin.Add(c.patience)); s != changed {
		t.Error("what has waited for long enough still waits")
	}
	gone := snapshot(model.ServiceMap{})
	if s, _ := c.next(gone, added.Generation, begin); s != gone {
		t.Error("a name that goes is held")
	}
}

// TestRulesThatAreAlwaysBehind answers from what is in by then, however fast the
// cluster changes.
func TestRulesThatAreAlwaysBehind(t *testing.T) {
	c := connectable{patience: time.Second}
	var m model.ServiceMap
	now := time.Unix(1000, 0)
	for i := range uint64(500) {
		name := model.Name{Namespace: "default", Name: string(rune('a' + i%20))}
		m = m.With(map[model.Name]*model.Service{name: {Name: name, ClusterIPs: parseAddrs("10.96.0.1")}})
		if i%20 == 19 {
			m = model.ServiceMap{}
		}
		s, _ := c.next(&model.Snapshot{Generation: i + 1, Services: m}, max(i, 3)-3, now.Add(time.Duration(i)*time.Millisecond))
		if i > 3 && s.Generation < i-3 {
			t.Fatalf("generation %d when the rules are at %d", s.Generation, i-3)
		}
		if len(c.seen) > 5 {
			t.Fatalf("%d Snapshots are remembered", len(c.seen))
		}
	}
}
