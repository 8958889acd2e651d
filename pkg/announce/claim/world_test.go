package claim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// world is some nodes, each with a clock of its own speed, and a network that
// loses, delays and cuts.
type world struct {
	*rand.Rand
	t         *testing.T
	now       time.Duration
	events    queue
	order     int
	nodes     []*box
	addresses []netip.Addr
	// loss is the share of messages that are lost, delay the longest delay.
	loss  float64
	delay time.Duration
	// cut says that nothing gets from one to another.
	cut map[[2]int]bool
	// owner is who had an address last, and since when it has nobody.
	owner  map[netip.Addr]int
	vacant map[netip.Addr]time.Duration
}

// box is a machine: the node on it is nil while it is dead.
type box struct {
	name  string
	speed float64
	node  *Node
	life  uint64
	may   map[netip.Addr][]string
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func newWorld(t *testing.T, seed uint64, nodes, addresses int) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 7)), t: t, delay: 5 * time.Millisecond, cut: map[[2]int]bool{},
		owner: map[netip.Addr]int{}, vacant: map[netip.Addr]time.Duration{},
	}
	for i := range addresses {
		w.addresses = append(w.addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for i := range nodes {
		w.nodes = append(w.nodes, &box{name: fmt.Sprint("node", i), speed: 0.95 + 0.1*w.Float64()})
	}
	for i := range w.nodes {
		w.nodes[i].may = w.everything()
		w.boot(i)
	}
	return w
}

func (w *world) names() []string {
	var out []string
	for _, b := range w.nodes {
		out = append(out, b.name)
	}
	return out
}

func (w *world) everything() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, a := range w.addresses {
		out[a] = w.names()
	}
	return out
}

// clock is what a node's clock shows.
func (w *world) clock(i int) time.Time {
	return time.Unix(int64(1000*(i+1)), int64(float64(w.now)*w.nodes[i].speed))
}

func (w *world) at(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.events, event{w.now + d, w.order, do})
}

// boot starts a node.
func (w *world) boot(i int) {
	b := w.nodes[i]
	b.life++
	b.node = New(b.name, b.life, w.clock(i))
	b.node.SetNodes(w.names())
	b.node.SetAddresses(w.clock(i), b.may)
	life := b.life
	var tick func()
	tick = func() {
		if b.node == nil || b.life != life {
			return
		}
		w.broadcast(i, b.node.Tick(w.clock(i)))
		w.at(time.Duration(float64(Period)/b.speed), tick)
	}
	w.at(time.Duration(w.Int64N(int64(Period))), tick)
}

func (w *world) broadcast(from int, m Message) {
	for to := range w.nodes {
		if to == from {
			continue
		}
		w.send(from, to, func() {
			b := w.nodes[to]
			if b.node == nil {
				return
			}
			reply, ok := b.node.Receive(w.clock(to), m)
			if b.node.Due(w.clock(to)) {
				w.broadcast(to, b.node.Tick(w.clock(to)))
			}
			if ok {
				w.send(to, from, func() {
					if n := w.nodes[from].node; n != nil {
						n.Answered(w.clock(from), reply)
					}
				})
			}
		})
	}
}

func (w *world) send(from, to int, arrive func()) {
	if w.cut[[2]int{from, to}] || w.Float64() < w.loss {
		return
	}
	w.at(time.Duration(w.Int64N(int64(w.delay))), func() {
		if !w.cut[[2]int{from, to}] {
			arrive()
		}
	})
}

// run lets time pass, and holds at each instant that nobody has what another has.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	for end := w.now + d; ; {
		if len(w.events) == 0 || w.events[0].at > end {
			w.now = end
			return
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
		w.check()
	}
}

func (w *world) check() {
	w.t.Helper()
	for _, a := range w.addresses {
		owner := -1
		for i, b := range w.nodes {
			if b.node == nil || !b.node.Holds(w.clock(i), a) {
				continue
			}
			if owner >= 0 {
				w.t.Fatalf("at %v both %s and %s have %v", w.now, w.nodes[owner].name, b.name, a)
			}
			owner = i
		}
		if owner < 0 {
			if _, is := w.vacant[a]; !is {
				w.vacant[a] = w.now
			}
			continue
		}
		delete(w.vacant, a)
		w.owner[a] = owner
	}
}

// owners counts the addresses of each node; all of them must have one.
func (w *world) owners(why string) map[int]int {
	w.t.Helper()
	w.check()
	if len(w.vacant) > 0 {
		w.t.Fatalf("at %v, %s: nobody has %v", w.now, why, w.vacant)
	}
	out := map[int]int{}
	for _, a := range w.addresses {
		out[w.owner[a]]++
	}
	return out
}
