package claim

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkPeriod is what one of several nodes does in a Period with 1,000
// addresses, of which it has its share: a message of its own, the replies to it,
// and the messages of all others.
func BenchmarkPeriod(b *testing.B) {
	for _, count := range []int{3, 30} {
		b.Run(fmt.Sprint(count, "nodes"), func(b *testing.B) {
			var names []string
			for i := range count {
				names = append(names, fmt.Sprint("node", i))
			}
			may := map[netip.Addr][]string{}
			for i := range 1000 {
				may[netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})] = names
			}
			now := time.Unix(1000, 0)
			var nodes []*Node
			for _, name := range names {
				n := New(name, 1, now)
				n.SetNodes(names)
				n.SetAddresses(now, may)
				nodes = append(nodes, n)
			}
			period := func() {
				now = now.Add(Period)
				for _, from := range nodes {
					m := from.Tick(now)
					for _, to := range nodes {
						if reply, ok := to.Receive(now, m); ok {
							from.Answered(now, reply)
						}
					}
				}
			}
			for range 10 {
				period()
			}
			for b.Loop() {
				period()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*count), "µs/node")
		})
	}
}
