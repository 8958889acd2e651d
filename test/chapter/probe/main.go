package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

func main() {
	url := flag.String("url", "", "what to get, as http://10.96.0.1:8080/")
	rate := flag.Float64("rate", 500, "new connections per second")
	timeout := flag.Duration("timeout", 2*time.Second, "how long a connection may take")
	flag.Parse()
	if *url == "" || *rate <= 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := bufio.NewWriter(os.Stdout)
	probe(ctx, *url, time.Duration(float64(time.Second) / *rate), *timeout, out)
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

// probe begins a connection every interval until ctx ends, whether or not the
// ones before have ended: a slow one must not hide what happens meanwhile.
func probe(ctx context.Context, url string, interval, timeout time.Duration, out *bufio.Writer) {
	client := &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			// A kept connection would stay with its pod for ever.
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: timeout}).DialContext,
		},
	}
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
				answer := get(client, url)
				end := time.Now()
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintln(out, begin.UnixNano(), end.UnixNano(), answer)
				out.Flush()
			})
		}
	}
}

// podName finds the name of a Deployment's or a StatefulSet's pod in an answer.
var podName = regexp.MustCompile(`\b[a-z0-9][a-z0-9-]*-[a-z0-9]+\b`)

func get(client *http.Client, url string) string {
	res, err := client.Get(url)
	if err != nil {
		return "!" + strings.Join(strings.Fields(err.Error()), "_")
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return "!" + strings.Join(strings.Fields(err.Error()), "_")
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Sprintf("!status_%d", res.StatusCode)
	}
	if name := podName.Find(body); name != nil {
		return string(name)
	}
	return "!no_pod_name_in_the_answer"
}
