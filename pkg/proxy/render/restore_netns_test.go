//go:build netns

package render_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
	"github.com/signpost-dev/signpost/test/netlab"
)

// BenchmarkRestore is what the programs take for the start of a cluster, and for one
// endpoint that is replaced. The shape of the rules was chosen by it.
func BenchmarkRestore(b *testing.B) {
	for _, size := range [][2]int{{1000, 10}, {10000, 2}, {10000, 10}} {
		for _, backend := range []string{"nft", "legacy"} {
			b.Run(fmt.Sprintf("%dx%d/%s", size[0], size[1], backend), func(b *testing.B) {
				lab, err := netlab.New()
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = lab.Close() }()
				restore := func(text string) time.Duration {
					before := childTime(b)
					if _, err := lab.Node.Command(b.Context(), text, "iptables-"+backend+"-restore", "--noflush", "--counters"); err != nil {
						b.Fatal(err)
					}
					return childTime(b) - before
				}
				m := many(size[0], size[1], nil)
				r := render.New(ruleset.IPv4, inRange(), node())
				start := restore(ruleset.Replace(r.Update(&m), nil).Text())
				var changes time.Duration
				for i := 0; b.Loop(); i++ {
					name := model.Name{Namespace: "default", Name: fmt.Sprint("s", i*7919%size[0])}
					svc := *m.Get(name)
					group := svc.Groups[0]
					group.Endpoints = append([]model.Endpoint{}, group.Endpoints...)
					group.Endpoints[0].Addr = netip.AddrFrom4([4]byte{10, 0, 77, byte(i)})
					svc.Groups = []model.EndpointGroup{group}
					m = m.With(map[model.Name]*model.Service{name: &svc})
					was := r.Set()
					changes += restore(ruleset.Diff(was, r.Update(&m)).Text())
				}
				b.ReportMetric(float64(start.Milliseconds()), "start-cpu-ms")
				b.ReportMetric(float64(changes.Milliseconds())/float64(b.N), "change-cpu-ms")
				b.ReportMetric(float64(r.Set().Len()), "chains")
				b.ReportMetric(float64(rules(r.Set())), "rules")
			})
		}
	}
}

// childTime is the processor time of all programs that have ended.
func childTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
