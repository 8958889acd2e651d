package dns

import (
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// limits bounds what clients can make the server hold.
type limits struct {
	// waiting is the number of requests that wait for upstreams.
	waiting int
	// tcpConns and tcpConnsPerClient are numbers of connections, tcpPipeline that
	// of requests of one connection that wait.
	tcpConns, tcpConnsPerClient, tcpPipeline int
	// tcpIdle is how long a connection may be silent, tcpRead how long a request
	// may take to arrive once begun, tcpWrite how long an answer may take to leave.
	tcpIdle, tcpRead, tcpWrite time.Duration
}

func defaultLimits() limits {
	return limits{
		waiting:  4096,
		tcpConns: 1024, tcpConnsPerClient: 64, tcpPipeline: 32,
		tcpIdle: 10 * time.Second, tcpRead: 5 * time.Second, tcpWrite: 5 * time.Second,
	}
}

// waiters are the goroutines of requests that wait for an upstream.
type waiters struct {
	max   int
	count prometheus.Gauge
	guard func(func())
	wg    sync.WaitGroup

	mu       sync.Mutex
	all      int
	byClient map[netip.Addr]int
}

func newWaiters(limit int, count prometheus.Gauge, guard func(func())) *waiters {
	return &waiters{max: limit, count: count, guard: guard, byClient: map[netip.Addr]int{}}
}

// start runs f in a goroutine, unless there are too many, or client has more of
// them than there is room for others: it alone can have half of all, and so there is
// always room for one more that asks.
func (w *waiters) start(client netip.Addr, f func()) bool {
	if !w.add(client) {
		return false
	}
	w.wg.Go(func() {
		defer w.remove(client)
		w.guard(f)
	})
	return true
}

func (w *waiters) add(client netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byClient[client] >= w.max-w.all {
		return false
	}
	w.all++
	w.byClient[client]++
	w.count.Inc()
	return true
}

// busy reports whether there are any.
func (w *waiters) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all > 0
}

func (w *waiters) remove(client netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Dec()
	w.all--
	if w.byClient[client]--; w.byClient[client] == 0 {
		delete(w.byClient, client)
	}
}

// connCounter counts connections, in all and of each client.
type connCounter struct {
	max, maxPerClient int

	mu       sync.Mutex
	all      int
	byClient map[netip.Addr]int
}

// add counts a connection of client, unless there are too many.
func (c *connCounter) add(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.max || c.byClient[client] >= c.maxPerClient {
		return false
	}
	c.all++
	c.byClient[client]++
	return true
}

func (c *connCounter) remove(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.byClient[client]--; c.byClient[client] == 0 {
		delete(c.byClient, client)
	}
}
