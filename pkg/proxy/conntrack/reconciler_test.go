package conntrack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// paper is a Table without a kernel. The test and the Reconciler look at it in
// turns, when the other one sleeps; the lock only tells the race detector so.
type paper struct {
	mu     sync.Mutex
	family ruleset.Family
	flows  []stale.Flow
	// takes is how long a reading takes.
	takes time.Duration
	err   error
	// read says when it was read, and for what.
	read   []string
	start  time.Time
	closed bool
}

func (p *paper) Family() ruleset.Family { return p.family }

func (p *paper) Cut(_ context.Context, filter stale.Filter, isStale func(stale.Flow) bool) (int, error) {
	p.meet()
	p.read = append(p.read, fmt.Sprint(time.Since(p.start), " ", filter.Protocol))
	time.Sleep(p.takes)
	p.meet()
	if p.err != nil {
		return 0, p.err
	}
	before := len(p.flows)
	p.flows = slices.DeleteFunc(p.flows, isStale)
	return before - len(p.flows), nil
}

func (p *paper) Addresses() (map[netip.Addr]struct{}, error) {
	return map[netip.Addr]struct{}{netip.MustParseAddr("192.168.1.10"): {}}, nil
}

func (p *paper) Close() { p.closed = true }

func (p *paper) meet() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// after lets time pass, and all that is due happen.
func (d *desk) after(wait time.Duration) {
	d.table.meet()
	d.other.meet()
	time.Sleep(wait)
	synctest.Wait()
	d.table.meet()
	d.other.meet()
}

// desk is a Reconciler over paper that has looked at its start and has nothing to do.
type desk struct {
	*Reconciler
	t       *testing.T
	table   *paper // of IPv4
	other   *paper // of IPv6
	log     *bytes.Buffer
	metrics *prometheus.Registry
	snap    model.Snapshot
	stop    func()
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, table: &paper{family: ruleset.IPv4}, other: &paper{family: ruleset.IPv6}, log: &bytes.Buffer{}, metrics: prometheus.NewRegistry()}
	var err error
	if d.Reconciler, err = New(Options{Tables: []Table{d.table, d.other}, Log: slog.New(slog.NewTextHandler(d.log, nil)), Registerer: d.metrics}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	d.stop = func() {
		cancel()
		if err := <-done; err != nil || !d.table.closed || !d.other.closed {
			t.Errorf("Run: %v; table closed: %t", err, d.table.closed)
		}
	}
	d.program(service("10.0.1.1"))
	d.after(10 * time.Second)
	d.table.read, d.table.start = nil, time.Now()
	return d
}

func (d *desk) program(svc *model.Service) {
	changes := map[model.Name]*model.Service{svc.Name: svc}
	d.snap.Services = d.snap.Services.With(changes)
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		d.Programmed(f, &d.snap, &d.snap.Services)
	}
}

// service is one with UDP in both families.
func service(v4 ...string) *model.Service {
	s := &model.Service{
		Name:       model.Name{Namespace: "default", Name: "s"},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd96::1")},
		Ports:      []model.ServicePort{{Protocol: model.UDP, Port: 53, NodePort: 30053}, {Name: "tcp", Protocol: model.TCP, Port: 53}},
	}
	g4 := model.EndpointGroup{Ports: []model.EndpointPort{{Protocol: model.UDP, Port: 5353}, {Name: "tcp", Protocol: model.TCP, Port: 5353}}}
	g6 := g4
	for _, a := range v4 {
		g4.Endpoints = append(g4.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(a), Ready: true, Serving: true})
		g6.Endpoints = append(g6.Endpoints, model.Endpoint{Addr: netip.MustParseAddr("fd00::" + a[strings.LastIndex(a, ".")+1:]), Ready: true, Serving: true})
	}
	s.Groups = []model.EndpointGroup{g4, g6}
	return s
}

func udp(to, server string) stale.Flow {
	return stale.Flow{Protocol: stale.UDP, To: netip.MustParseAddrPort(to), Server: netip.MustParseAddrPort(server)}
}

// TestReadings holds when the table is read after a change, and how often.
func TestReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		defer d.stop()
		d.table.takes = 10 * time.Millisecond
		d.table.flows = []stale.Flow{udp("10.96.0.1:53", "10.0.1.1:5353"), udp("192.168.1.10:30053", "10.0.1.1:5353"), udp("192.168.1.11:30053", "10.0.1.1:5353")}
		d.other.flows = []stale.Flow{udp("[fd96::1]:53", "[fd00::1]:5353"), udp("[fd96::1]:53", "[fd00::2]:5353")}
		d.program(service("10.0.1.2"))
		d.after(10 * time.Second)
		want := []string{"0s 17", "50ms 17", "500ms 6"}
		if diff := cmp.Diff(want, d.table.read); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
		left := slices.Concat(d.table.flows, d.other.flows)
		stay := []stale.Flow{udp("192.168.1.11:30053", "10.0.1.1:5353"), udp("[fd96::1]:53", "[fd00::2]:5353")}
		if diff := cmp.Diff(stay, left, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		d.table.read = nil
		d.program(service("10.0.1.2", "10.0.1.3"))
		d.after(time.Second)
		if d.table.read != nil {
			t.Errorf("an endpoint that only comes: read %v", d.table.read)
		}
		if err := testutil.GatherAndCompare(d.metrics, strings.NewReader(`
# HELP kubeproxy_conntrack_reconciler_deleted_entries_total Number of stale flows that were cut.
# TYPE kubeproxy_conntrack_reconciler_deleted_entries_total counter
kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 2
kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 1
`), "kubeproxy_conntrack_reconciler_deleted_entries_total"); err != nil {
			t.Error(err)
		}
	})
}

// TestManyChanges holds that changes without end neither wait for long nor make
// the table be read without end; and that nobody waits for a reading.
func TestManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		defer d.stop()
		d.table.takes = 10 * time.Millisecond
		for i := range 1000 {
			start := time.Now()
			d.program(service(fmt.Sprint("10.0.1.", 1+i%2)))
			if took := time.Since(start); took > 0 {
				t.Fatalf("Programmed blocked for %s", took)
			}
			time.Sleep(time.Millisecond)
		}
		d.table.meet()
		// One round is a reading and a pause that is as long.
		if n := len(d.table.read); n < 40 || n > 60 {
			t.Errorf("the table was read %d times in a second", n)
		}
		d.after(time.Second)
		d.table.meet()
		read := len(d.table.read)
		d.after(time.Hour)
		if len(d.table.read) != read {
			t.Errorf("the table is read while nothing happens")
		}
	})
}

// TestFailure holds that what could not be cut is tried again, and said once.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		defer d.stop()
		d.table.flows = []stale.Flow{udp("10.96.0.1:53", "10.0.1.1:5353")}
		d.table.err = errors.New("no buffer space")
		d.program(service("10.0.1.2"))
		d.after(time.Minute)
		if n := len(d.table.read); n < 10 || n > 30 {
			t.Errorf("tried %d times in a minute", n)
		}
		if n := strings.Count(d.log.String(), "no buffer space"); n != 1 {
			t.Errorf("said %d times:\n%s", n, d.log)
		}
		d.table.err = nil
		d.after(6 * time.Second)
		if len(d.table.flows) != 0 {
			t.Error("not cut when that was possible again")
		}
	})
}

// FuzzParse holds that nothing the kernel could say brings the parser down.
func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0x80, 4, 0, 1, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, ok := parse(data); ok && (!e.flow.To.IsValid() || !e.flow.Server.IsValid() || len(e.tuple)%4 != 0) {
			t.Errorf("parse gives %+v", e)
		}
		for m := range messages(data) {
			_ = m.error()
		}
	})
}
