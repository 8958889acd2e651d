package dns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func testClient(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// TestOneClientLeavesRoomForOthers fills what there is for requests that wait.
func TestOneClientLeavesRoomForOthers(t *testing.T) {
	w := newWaiters(64, prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"}), func(f func()) { f() })
	greedy := func(i int) (n int) {
		for w.add(testClient(i)) {
			n++
		}
		return n
	}
	if n := greedy(0); n != 32 {
		t.Errorf("one client has %d of 64", n)
	}
	if n := greedy(1); n != 16 {
		t.Errorf("the second client has %d of 64", n)
	}
	if !w.add(testClient(2)) {
		t.Error("there is no room for a third client")
	}
	w.remove(testClient(2))
	for range 32 {
		w.remove(testClient(0))
	}
	for range 16 {
		w.remove(testClient(1))
	}
	if w.all != 0 || len(w.byClient) != 0 {
		t.Errorf("at the end there are %d, of %v", w.all, w.byClient)
	}
}

// readerAt is a socket's queue and its reader, in a time of their own.
type readerAt struct {
	shares
	now             time.Time
	queue           []netip.Addr
	answered, asked map[netip.Addr]int
}

const (
	simulatedQueue  = 256
	simulatedAnswer = 10 * time.Microsecond
	simulatedDrop   = 500 * time.Nanosecond
)

// run lets each client ask so often per second, for a second.
func (r *readerAt) run(rates map[netip.Addr]int) {
	r.now = time.Unix(1000, 0)
	r.answered, r.asked = map[netip.Addr]int{}, map[netip.Addr]int{}
	start := r.now
	arrive := func() {
		took := r.now.Sub(start)
		// In turns, as a queue that is full is closed to all alike.
		for more := true; more; {
			more = false
			for c, rate := range rates {
				if r.asked[c] < int(took.Seconds()*float64(rate)) {
					r.asked[c]++
					more = true
					if len(r.queue) < simulatedQueue {
						r.queue = append(r.queue, c)
					}
				}
			}
		}
	}
	for r.now.Sub(start) < time.Second {
		arrive()
		n := min(len(r.queue), batchLen)
		batch := r.queue[:n]
		r.queue = r.queue[n:]
		r.pressed = n == batchLen && len(r.queue)+n > simulatedQueue*3/8
		if n == 0 {
			r.now = r.now.Add(simulatedDrop)
		}
		for _, c := range batch {
			if r.spent(c, r.now) {
				r.now = r.now.Add(simulatedDrop)
				continue
			}
			r.now = r.now.Add(simulatedAnswer)
			r.use(c, simulatedAnswer)
			r.answered[c]++
		}
	}
}

// TestReaderIsShared has a reader that can answer 100,000 questions per second, and
// clients that ask more than that.
func TestReaderIsShared(t *testing.T) {
	for _, tt := range []struct {
		name           string
		greedy, modest int
	}{
		{"one against many", 1, 50},
		{"ten against many", 10, 50},
		{"one against one", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rates := map[netip.Addr]int{}
			for i := range tt.greedy {
				rates[testClient(i)] = 600_000 / tt.greedy
			}
			for i := range tt.modest {
				rates[testClient(1000+i)] = 200
			}
			var r readerAt
			r.run(rates)
			var asked, answered, all int
			for c, n := range r.asked {
				all += r.answered[c]
				if rates[c] == 200 {
					asked, answered = asked+n, answered+r.answered[c]
				}
			}
			if answered < asked*98/100 {
				t.Errorf("%d of %d questions of modest clients are answered", answered, asked)
			}
			if all < 50_000 {
				t.Errorf("%d questions are answered in all, where 100,000 could be", all)
			}
		})
	}
	t.Run("nobody else asks", func(t *testing.T) {
		var r readerAt
		r.run(map[netip.Addr]int{testClient(0): 600_000})
		if n := r.answered[testClient(0)]; n < 95_000 {
			t.Errorf("%d questions are answered, where 100,000 could be", n)
		}
	})
	t.Run("there is enough for all", func(t *testing.T) {
		var r readerAt
		r.run(map[netip.Addr]int{testClient(0): 70_000, testClient(1): 200})
		for c, n := range r.asked {
			if r.answered[c] < n-batchLen {
				t.Errorf("%v: %d of %d questions are answered", c, r.answered[c], n)
			}
		}
	})
}
