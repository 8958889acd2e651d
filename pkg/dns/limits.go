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
	tokens chan struct{}
	count  prometheus.Gauge
	guard  func(func())
	wg     sync.WaitGroup
}

// start runs f in a goroutine, unless there are too many.
func (w *waiters) start(f func()) bool {
	select {
	case w.tokens <- struct{}{}:
	default:
		return false
	}
	w.count.Inc()
	w.wg.Go(func() {
		defer func() { w.count.Dec(); <-w.tokens }()
		w.guard(f)
	})
	return true
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
