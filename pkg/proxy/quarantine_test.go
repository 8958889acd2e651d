package proxy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// TestOneBadService is the heart of the matter: a kernel that refuses what one
// Service wants, and all others that come, change and go meanwhile.
func TestOneBadService(t *testing.T) {
	for _, atStart := range []bool{false, true} {
		t.Run(fmt.Sprint("at start ", atStart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.tables.Refuse = refuse("10.66.6.6")
				var all []*model.Service
				for i := range 100 {
					all = append(all, service(i, "10.0.2.1"))
				}
				r.source.publish(all...)
				if atStart {
					r.source.publish(service(13, "10.66.6.6"))
				}
				defer r.run(t)()
				if !atStart {
					r.source.publish(service(13, "10.66.6.6"), service(14, "10.0.2.14"), gone(15), service(101, "10.0.2.101"))
				} else {
					r.source.publish(service(14, "10.0.2.14"), gone(15), service(101, "10.0.2.101"))
				}
				synctest.Wait()
				lastGood := to("10.0.2.1")
				if atStart {
					lastGood = fmt.Sprintf(untouched, 13) // there was none
				}
				for i, want := range map[int]string{13: lastGood, 14: to("10.0.2.14"), 15: fmt.Sprintf(untouched, 15), 101: to("10.0.2.101"), 16: to("10.0.2.1")} {
					if got := r.goesTo(i); got != want {
						t.Errorf("s%d: got %s, want %s", i, got, want)
					}
				}
				if diff := cmp.Diff([]string{"default/s13 " + proxy.ReasonRefused}, r.events.list); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if !strings.Contains(r.log.String(), "default/s13") {
					t.Errorf("the log does not name the Service:\n%s", r.log)
				}
				if r.proxy.Programmed() != r.source.Snapshot().Generation {
					t.Errorf("programmed %d of %d: one Service holds up all", r.proxy.Programmed(), r.source.Snapshot().Generation)
				}
				// The others go on changing while it is tried again now and then.
				for i := range 20 {
					addr := fmt.Sprintf("10.0.4.%d", i)
					r.source.publish(service(20, addr))
					r.after(10 * time.Second)
					if got := r.goesTo(20); got != to(addr) {
						t.Fatalf("s20: got %s, want %s", got, to(addr))
					}
				}
				if got := len(r.events.list); got != 1 {
					t.Errorf("%d events for one refused Service", got)
				}
				writes := len(r.tables.Restores)
				r.after(10 * time.Minute)
				if got := len(r.tables.Restores) - writes; got > 10 {
					t.Errorf("%d attempts in ten minutes", got)
				}
				// It is accepted when it changes …
				r.source.publish(service(13, "10.0.2.13"))
				synctest.Wait()
				if got := r.goesTo(13); got != to("10.0.2.13") {
					t.Errorf("s13 mended: got %s", got)
				}
				// … and when the kernel changes its mind.
				r.source.publish(service(13, "10.66.6.6"))
				synctest.Wait()
				r.tables.Refuse = nil
				r.after(2 * time.Second)
				if got := r.goesTo(13); got != to("10.66.6.6") {
					t.Errorf("s13 accepted: got %s", got)
				}
			})
		})
	}
}

// TestOneBadServiceAtAdoption checks that the search for a bad Service when
// nothing is known of the kernel does not take away rules that work.
func TestOneBadServiceAtAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var all []*model.Service
		for i := range 20 {
			all = append(all, service(i, "10.0.2.1"))
		}
		r.source.publish(all...)
		r.run(t)()
		r.source.publish(service(13, "10.66.6.6"))
		r.tables.Refuse = refuse("10.66.6.6")
		r.tables.wrote = func() {
			for i := range 20 {
				if got := r.goesTo(i); i != 13 && got != to("10.0.2.1") {
					t.Errorf("s%d loses its rules: %s", i, got)
				}
			}
		}
		r.restart(t)
		defer r.run(t)()
		if r.proxy.Programmed() != 2 || len(r.events.list) != 1 {
			t.Errorf("programmed %d, events %v", r.proxy.Programmed(), r.events.list)
		}
	})
}

// TestKernelRefusesWhatTheProgramTakes is the case in which a check is of no
// use: the program has nothing against the rules, the kernel has.
func TestKernelRefusesWhatTheProgramTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.blind = true
		r.tables.Refuse = refuse("10.66.6.6")
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.66.6.6"), service(3, "10.0.2.3"))
		defer r.run(t)()
		if r.goesTo(1) != to("10.0.2.1") || r.goesTo(3) != to("10.0.2.3") || r.proxy.Programmed() != 1 {
			t.Errorf("s1: %s, s3: %s, programmed %d", r.goesTo(1), r.goesTo(3), r.proxy.Programmed())
		}
		if diff := cmp.Diff([]string{"default/s2 " + proxy.ReasonRefused}, r.events.list); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestNobodyLosesRulesToACulprit is the case in which what the kernel holds is not
// known while a Service comes that only the kernel refuses: the others must not
// be taken away to find it.
func TestNobodyLosesRulesToACulprit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.blind = true
		r.source.publish(service(1, "10.0.2.1"), service(3, "10.0.2.3"))
		defer r.run(t)()
		r.tables.Fail = &iptables.BrokenOffError{Program: "iptables-restore", Err: errors.New("killed")}
		r.source.publish(service(4, "10.0.2.4"))
		synctest.Wait()
		r.tables.Fail = nil
		r.tables.Refuse = refuse("10.66.6.6")
		r.tables.wrote = func() {
			for _, i := range []int{1, 3} {
				if got := r.goesTo(i); got != to(fmt.Sprint("10.0.2.", i)) {
					t.Errorf("s%d loses its rules: %s", i, got)
				}
			}
		}
		r.source.publish(service(2, "10.66.6.6"))
		r.after(time.Minute)
		if r.goesTo(4) != to("10.0.2.4") || r.proxy.Programmed() != 3 {
			t.Errorf("s4: %s, programmed %d", r.goesTo(4), r.proxy.Programmed())
		}
		if diff := cmp.Diff([]string{"default/s2 " + proxy.ReasonRefused}, r.events.list); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestDamageIsNotBlamedOnServices holds that a Service whose new rules do not fit
// to what somebody has removed is not taken for the culprit.
func TestDamageIsNotBlamedOnServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var many []string // so many that they get a chain, to which what is above them leads
		for i := range 20 {
			many = append(many, fmt.Sprint("10.0.3.", i))
		}
		r.source.publish(service(1, many...))
		defer r.run(t)()
		all := r.goesTo(1)
		r.tables.Flush(ruleset.NAT)
		r.source.publish(service(2, "10.0.2.2"))
		synctest.Wait()
		if r.goesTo(1) != all || r.goesTo(2) != to("10.0.2.2") || len(r.events.list) != 0 {
			t.Errorf("s2: %s, events %v\n%s", r.goesTo(2), r.events.list, r.log)
		}
		if !strings.Contains(r.log.String(), "somebody has damaged the rules") {
			t.Errorf("the damage was not met:\n%s", r.log)
		}
	})
}

// TestEverythingIsRefused checks that Services are not blamed for what is wrong
// with the node.
func TestEverythingIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.Refuse = refuse("-m mark")
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		defer r.run(t)()
		r.after(time.Minute)
		if r.proxy.Programmed() != 0 || len(r.events.list) != 0 || !strings.Contains(r.log.String(), "no such match") {
			t.Errorf("programmed %d, events %v, log\n%s", r.proxy.Programmed(), r.events.list, r.log)
		}
		r.tables.Refuse = nil
		r.after(10 * time.Second)
		if r.goesTo(1) != to("10.0.2.1") || r.proxy.Programmed() != 1 {
			t.Errorf("when it is mended: %s", r.goesTo(1))
		}
	})
}

func refuse(what string) func(string) string {
	return func(line string) string {
		if strings.Contains(line, what) {
			return "no such match"
		}
		return ""
	}
}

// TestHalfWritten checks that a write that is refused after its first table does
// not leave the two tables apart: the first one is known to be written.
func TestHalfWritten(t *testing.T) {
	second := func() *model.Service {
		svc := service(2, "10.0.2.2")
		svc.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.2")}
		svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		return svc
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.tables.Refuse = refuse("s2:http source ranges") // in nat, after filter has what drops the others
		r.source.publish(second())
		synctest.Wait()
		if text := r.tables.Restores[len(r.tables.Restores)-1]; !strings.Contains(text, "*filter") || strings.Contains(text, "*nat") {
			t.Errorf("what was written before the refusal is not taken back by\n%s", text)
		}
		if strings.Contains(r.tables.Dump(), "203.0.113.2") || r.goesTo(2) != fmt.Sprintf(untouched, 2) {
			t.Errorf("a quarantined new Service has rules:\n%s", r.tables.Dump())
		}
		r.tables.Refuse = nil
		r.after(time.Minute)
		fresh := newRig(t)
		fresh.source.publish(service(1, "10.0.2.1"), second())
		fresh.run(t)()
		if diff := cmp.Diff(fresh.tables.Dump(), r.tables.Dump()); diff != "" {
			t.Errorf("(-fresh +after refusals):\n%s", diff)
		}
	})
}
