package proxy_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

func TestNothingIsWrittenBeforeTheFirstSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(t)()
		r.after(time.Hour)
		if len(r.tables.Restores) != 0 || r.proxy.Programmed() != 0 {
			t.Fatalf("%d writes, programmed %d", len(r.tables.Restores), r.proxy.Programmed())
		}
		r.source.publish(service(1, "10.0.2.1"))
		synctest.Wait()
		if diff := cmp.Diff(to("10.0.2.1"), r.goesTo(1)); diff != "" {
			t.Error(diff)
		}
		if r.proxy.Programmed() != 1 {
			t.Errorf("Programmed() = %d, want 1", r.proxy.Programmed())
		}
	})
}

// TestOneChangeWritesOneChain checks that a change of endpoints costs one chain,
// and that nothing is written when nothing has changed.
func TestOneChangeWritesOneChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var all []*model.Service
		for i := range 200 {
			all = append(all, service(i, "10.0.2.1"))
		}
		r.source.publish(all...)
		defer r.run(t)()
		writes := len(r.tables.Restores)
		r.source.publish(service(7, "10.0.2.1", "10.0.2.2"))
		synctest.Wait()
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Fatalf("%d writes for one change", got)
		}
		text := r.tables.Restores[writes]
		if got := strings.Count(text, "\n:"); got != 1 || strings.Count(text, "\n-A") != 15+2 { // with its neighbours
			t.Errorf("a change of endpoints writes\n%s", text)
		}
		r.source.publish()
		r.after(10 * time.Minute)
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Errorf("%d writes without a change", got-1)
		}
		if r.proxy.Programmed() != 3 {
			t.Errorf("Programmed() = %d, want 3", r.proxy.Programmed())
		}
	})
}

// TestNoFixedWait checks that a lone change is written at once, and that many
// changes share writes and leave the processor time for others.
func TestNoFixedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.takes = 100 * time.Millisecond
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Minute)
		start := time.Now()
		r.source.publish(service(1, "10.0.2.2"))
		for r.proxy.Programmed() != 2 {
			r.after(time.Millisecond)
		}
		if took := time.Since(start); took > 101*time.Millisecond {
			t.Errorf("a lone change took %v, a write takes 100ms", took)
		}
		r.after(time.Minute)
		start = time.Now()
		writes := len(r.tables.Restores)
		for i := range 1000 {
			r.source.publish(service(1, fmt.Sprintf("10.0.3.%d", i%250)))
			r.after(3 * time.Millisecond)
		}
		n := len(r.tables.Restores) - writes
		if busy := time.Duration(n) * r.tables.takes; busy > time.Since(start)*7/10 {
			t.Errorf("%d writes in %v are more than two thirds of the time", n, time.Since(start))
		}
		r.after(time.Second)
		if r.proxy.Programmed() != r.source.Snapshot().Generation {
			t.Errorf("programmed %d of %d", r.proxy.Programmed(), r.source.Snapshot().Generation)
		}
	})
}

// TestRestartAdopts checks that another run takes the rules over, removes what
// has gone meanwhile, and that there is no moment without rules.
func TestRestartAdopts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		r.run(t)()
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Fatalf("after the stop: %s", got)
		}
		r.source.publish(service(2, "10.0.2.3"), gone(1))
		r.restart(t)
		writes := len(r.tables.Restores)
		defer r.run(t)()
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Errorf("%d writes to take over", got)
		}
		if got := r.goesTo(2); got != to("10.0.2.3") {
			t.Errorf("s2: %s", got)
		}
		if got := r.goesTo(1); got != fmt.Sprintf(untouched, 1) {
			t.Errorf("s1: %s", got)
		}
		existing, _ := r.tables.Existing(t.Context(), new(ruleset.Set))
		if n := strings.Count(fmt.Sprint(existing.Set.Keys()), "SIGNPOST-10.96."); n != 1 {
			t.Errorf("%d chains of addresses for one Service: %v", n, existing.Set.Keys())
		}
	})
}

// TestRestartWritesNothing checks that rules which are as they should be are not
// written again.
func TestRestartWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"), service(2))
		r.run(t)()
		writes := len(r.tables.Restores)
		r.restart(t)
		defer r.run(t)()
		if more := r.tables.Restores[writes:]; len(more) > 0 || r.proxy.Programmed() != 1 {
			t.Errorf("programmed %d, a restart has written\n%s", r.proxy.Programmed(), strings.Join(more, "\n"))
		}
	})
}

// TestFailuresAreRetried checks that whatever a write fails with, the rules come
// when it does not fail any more.
func TestFailuresAreRetried(t *testing.T) {
	for _, err := range []error{
		iptables.ErrLocked, &iptables.BrokenOffError{Program: "iptables-restore", Err: errors.New("killed")},
		&iptables.MissingProgramError{Program: "iptables-restore"}, errors.New("something"),
	} {
		t.Run(err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.source.publish(service(1, "10.0.2.1"))
				defer r.run(t)()
				r.tables.Fail = err
				r.source.publish(service(1, "10.0.2.2"))
				r.after(time.Minute)
				if n := len(r.tables.Restores); n > 30 {
					t.Errorf("%d attempts in a minute", n)
				}
				if r.proxy.Programmed() != 1 || len(r.events.list) != 0 {
					t.Errorf("programmed %d, events %v", r.proxy.Programmed(), r.events.list)
				}
				r.tables.Fail = nil
				r.after(10 * time.Second)
				if got := r.goesTo(1); got != to("10.0.2.2") || r.proxy.Programmed() != 2 {
					t.Errorf("programmed %d: %s", r.proxy.Programmed(), got)
				}
			})
		})
	}
}

// TestHooksAreRetried checks that a repair is not over when the chains are
// written again but nothing leads to them.
func TestHooksAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.tables.Flush(ruleset.NAT)
		r.tables.hookless = errors.New("somebody has written to the table at the same time")
		r.after(3 * time.Second)
		r.tables.hookless = nil
		r.after(10 * time.Second)
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Error(got)
		}
	})
}

// TestBrokenOff checks that nothing is taken for granted after a write that was
// killed: here it has left the table empty.
func TestBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		defer r.run(t)()
		r.tables.Fail = &iptables.BrokenOffError{Program: "iptables-restore", Err: errors.New("killed")}
		r.source.publish(service(1, "10.0.2.3"))
		synctest.Wait()
		r.tables.Flush(ruleset.NAT)
		r.tables.Fail = nil
		r.after(time.Second)
		if r.goesTo(1) != to("10.0.2.3") || r.goesTo(2) != to("10.0.2.2") {
			t.Errorf("s1: %s, s2: %s", r.goesTo(1), r.goesTo(2))
		}
	})
}

// TestListenersComeAndGo checks that the hooks of the raw table follow.
func TestListenersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		before := r.tables.Dump()
		r.source.listenAt(netip.MustParseAddrPort("10.96.0.1:53"))
		synctest.Wait()
		if got := strings.Count(r.tables.Dump(), "notrack"); got != 4 {
			t.Errorf("%d rules for a listener, want 4", got)
		}
		r.source.listenAt()
		synctest.Wait()
		if diff := cmp.Diff(before, r.tables.Dump()); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
		// They come back also when taking them away did not work.
		at := netip.MustParseAddrPort("10.96.0.1:53")
		r.source.listenAt(at)
		synctest.Wait()
		with := r.tables.Dump()
		r.tables.Fail = iptables.ErrLocked
		r.source.listenAt()
		synctest.Wait()
		r.tables.Fail = nil
		r.source.listenAt(at)
		r.after(time.Second)
		if diff := cmp.Diff(with, r.tables.Dump()); diff != "" {
			t.Errorf("(-before +after a failure):\n%s", diff)
		}
	})
}

// TestProblemsAreSaid checks that a part of a Service that cannot be rendered is
// named once, and does not keep the rest from working.
func TestProblemsAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		odd := func(eps ...string) *model.Service {
			svc := service(1, eps...)
			svc.Ports = append(svc.Ports, model.ServicePort{Name: "odd", Protocol: "QUIC", Port: 443})
			return svc
		}
		r.source.publish(odd("10.0.2.1"))
		defer r.run(t)()
		r.source.publish(odd("10.0.2.2"))
		synctest.Wait()
		if diff := cmp.Diff([]string{"default/s1 " + proxy.ReasonNotProgrammed}, r.events.list); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if got := r.goesTo(1); got != to("10.0.2.2") {
			t.Errorf("the rest of it: %s", got)
		}
	})
}

func TestRulesAsText(t *testing.T) {
	var m model.ServiceMap
	svc := service(1, "10.0.2.1")
	m = m.With(map[model.Name]*model.Service{svc.Name: svc})
	var b strings.Builder
	if err := proxy.Rules(&b, &model.Snapshot{Services: m}, proxy.Config{MasqueradeBit: 14}, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# iptables-restore", "# ip6tables-restore", "10.0.2.1:8080", "-I PREROUTING -j SIGNPOST-SERVICES"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := proxy.Options{
		Config:    proxy.Config{SyncPeriod: time.Second},
		Snapshots: &source{}, Events: &warnings{}, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for name, change := range map[string]func(*proxy.Options){
		"Snapshots":     func(o *proxy.Options) { o.Snapshots = nil },
		"syncPeriod":    func(o *proxy.Options) { o.Config.SyncPeriod = 0 },
		"masqueradeBit": func(o *proxy.Options) { o.Config.MasqueradeBit = 32 },
	} {
		bad := good
		change(&bad)
		if _, err := proxy.New(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := proxy.New(good); err != nil {
		t.Error(err)
	}
}
