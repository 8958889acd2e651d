package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signpost-dev/signpost/test/netlab"
)

const (
	// clients are sockets that questions come from.
	clients = 4
	// answerLimit is how long an answer is waited for in the end.
	answerLimit = 500 * time.Millisecond
	// window is how many questions of a client are open when as many as possible are asked.
	window = 32
)

// load is what is asked.
type load struct {
	questions [][]byte
	network   string
	// rate is questions per second, or 0 for as many as are answered.
	rate   float64
	length time.Duration
}

// answers is what came back.
type answers struct {
	asked, answered int
	latencies       []time.Duration
	took            time.Duration
}

// lost is the share of questions that were not answered.
func (a *answers) lost() float64 { return 1 - float64(a.answered)/float64(max(a.asked, 1)) }

func (a *answers) percentile(share float64) time.Duration {
	if len(a.latencies) == 0 {
		return 0
	}
	return a.latencies[min(len(a.latencies)-1, int(share*float64(len(a.latencies))))]
}

// asker is a socket with questions under way.
type asker struct {
	load   load
	conn   net.Conn
	sent   [1 << 16]atomic.Int64 // when, by ID; 0 if answered
	window chan struct{}
	begin  time.Time

	asked, answered int
	latencies       []time.Duration
}

// run asks from a pod for as long as the load says.
func run(ctx context.Context, from *netlab.Namespace, to netip.AddrPort, l load) (*answers, error) {
	out := &answers{}
	var all []*asker
	for range clients {
		var conn net.Conn
		err := from.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, l.network, to.String())
			return err
		})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		all = append(all, &asker{load: l, conn: conn, window: make(chan struct{}, window)})
	}
	begin := time.Now()
	var running sync.WaitGroup
	errs := make([]error, 2*clients)
	for i, c := range all {
		c.begin = begin
		running.Go(func() { errs[2*i] = c.ask(ctx) })
		running.Go(func() { errs[2*i+1] = c.read() })
	}
	running.Wait()
	for _, c := range all {
		out.asked += c.asked
		out.answered += c.answered
		out.latencies = append(out.latencies, c.latencies...)
	}
	slices.Sort(out.latencies)
	out.took = l.length
	return out, errors.Join(errs...)
}

// ask asks until the time is over.
func (c *asker) ask(ctx context.Context) error {
	defer func() { _ = c.conn.SetReadDeadline(time.Now().Add(answerLimit)) }()
	buf := make([]byte, 2, 514)
	pause := time.Duration(0)
	if c.load.rate > 0 {
		pause = time.Duration(clients / c.load.rate * float64(time.Second))
	}
	next := c.begin
	for id := uint16(0); ctx.Err() == nil; id++ {
		if pause > 0 {
			next = next.Add(pause)
			if wait := time.Until(next); wait > 0 {
				time.Sleep(wait)
			}
		} else {
			select {
			case c.window <- struct{}{}:
			case <-time.After(20 * time.Millisecond): // one was lost
			}
		}
		now := time.Now()
		if now.Sub(c.begin) > c.load.length {
			return nil
		}
		q := c.load.questions[rand.IntN(len(c.load.questions))]
		binary.BigEndian.PutUint16(buf, uint16(len(q)))
		wire := append(buf[:2], q...)
		binary.BigEndian.PutUint16(wire[2:], id)
		if c.load.network == "udp" {
			wire = wire[2:]
		}
		// From when it should have been asked, so that a queue shows.
		at := now
		if pause > 0 {
			at = next
		}
		c.sent[id].Store(at.UnixNano())
		c.asked++
		if _, err := c.conn.Write(wire); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
	}
	return ctx.Err()
}

// read reads answers until none comes any more.
func (c *asker) read() error {
	buf := make([]byte, 65536)
	for {
		n, err := c.readOne(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("read an answer: %w", err)
		}
		if n < 12 {
			continue
		}
		if at := c.sent[binary.BigEndian.Uint16(buf)].Swap(0); at != 0 {
			c.answered++
			c.latencies = append(c.latencies, time.Duration(time.Now().UnixNano()-at))
			select {
			case <-c.window:
			default:
			}
		}
	}
}

func (c *asker) readOne(buf []byte) (int, error) {
	if c.load.network == "udp" {
		return c.conn.Read(buf)
	}
	if _, err := io.ReadFull(c.conn, buf[:2]); err != nil {
		return 0, err
	}
	return io.ReadFull(c.conn, buf[:binary.BigEndian.Uint16(buf)])
}
