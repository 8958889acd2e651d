package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

func main() {
	target := flag.String("url", "", "what to ask, as http://10.96.0.1:8080/ or dns://10.96.0.10/name")
	rate := flag.Float64("rate", 500, "new connections per second")
	timeout := flag.Duration("timeout", 2*time.Second, "how long a connection may take")
	kept := flag.Int("kept", 0, "so many connections that are kept and asked in turn, instead of new ones")
	flag.Parse()
	if *target == "" || *rate <= 0 || *kept < 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ask, err := asker(*target, *timeout, *kept)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := bufio.NewWriter(os.Stdout)
	probe(ctx, ask, time.Duration(float64(time.Second) / *rate), out)
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

// probe asks every interval until ctx ends, whether or not the times before have
// been answered: a slow one must not hide what happens meanwhile.
func probe(ctx context.Context, ask func() string, interval time.Duration, out *bufio.Writer) {
	var mu sync.Mutex
	var shots sync.WaitGroup
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			shots.Wait()
			return
		case <-ticker.C:
			shots.Go(func() {
				begin := time.Now()
				answer := ask()
				end := time.Now()
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintln(out, begin.UnixNano(), end.UnixNano(), answer)
				out.Flush()
			})
		}
	}
}

// asker returns what asks target once: over a new connection, or by the next of
// those that are kept.
func asker(target string, timeout time.Duration, kept int) (func() string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http":
		// A kept connection stays with its pod as long as that lives. Each has a
		// transport of its own, or they would be put into one.
		clients := make([]*http.Client, max(kept, 1))
		for i := range clients {
			clients[i] = &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: kept == 0}}
		}
		var asked atomic.Uint64
		return func() string { return get(clients[asked.Add(1)%uint64(len(clients))], target) }, nil
	case "dns":
		client, server := &dns.Client{Timeout: timeout}, net.JoinHostPort(u.Hostname(), either(u.Port(), "53"))
		name := dns.Fqdn(strings.Trim(u.Path, "/"))
		return func() string { return lookup(client, server, name) }, nil
	default:
		return nil, fmt.Errorf("url %q: the scheme is neither http nor dns", target)
	}
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// lookup asks once, by UDP from a port of its own. A resolver would ask again,
// and the one of package net would put all questions of the same name into one.
func lookup(client *dns.Client, server, name string) string {
	answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), server)
	if err != nil {
		return failure(err)
	}
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String()
		}
	}
	return "!" + dns.RcodeToString[answer.Rcode] + "_without_an_address"
}

// failure writes an error as one field.
func failure(err error) string { return "!" + strings.Join(strings.Fields(err.Error()), "_") }

// podName finds who answers in an answer of test/kuard.
var podName = regexp.MustCompile(`(?m)^pod +(\S+)$`)

func get(client *http.Client, target string) string {
	res, err := client.Get(target)
	if err != nil {
		return failure(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return failure(err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Sprintf("!status_%d", res.StatusCode)
	}
	if name := podName.FindSubmatch(body); name != nil {
		return string(name[1])
	}
	return "!no_pod_name_in_the_answer"
}
