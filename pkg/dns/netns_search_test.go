//go:build netns

package dns

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/records"
)

// getent looks name up as a program in the pod would, with glibc and the given
// resolv.conf. It returns what getent prints, or how it failed.
func (p *pod) getent(resolvConf, name string) string {
	p.t.Helper()
	var out []byte
	p.run(func() error {
		// A mount namespace of its own, so that nobody else sees the file.
		cmd := exec.Command("unshare", "--mount", "sh", "-c",
			`mount --bind "$0" /etc/resolv.conf && exec getent ahosts "$1"`, resolvConf, name)
		var err error
		out, err = cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(out) == 0 {
			out = []byte(exit.String())
			return nil
		}
		return err
	})
	return string(out)
}

// TestGlibcFindsTheSame has a pod's C library look names up at a server that walks
// search lists, and at one that does not: it must find the same, by fewer
// questions.
func TestGlibcFindsTheSame(t *testing.T) {
	p, u := newPod(t), startUpstream(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	node := write("node", "search corp.example\n")
	podFile := write("pod", "nameserver 10.96.0.53\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:5\n")
	names := []string{
		"www.example.org", "www.example.org.", "missing.example.org", "broken.example.org", "example.org", "web.default",
		"web.default.svc", "web.default.svc.cluster.local", "web.default.svc.cluster.local.", "ext.default.svc", "extmissing.default.svc",
		"10-1-0-5.big.default", "10-1-0-5.big.default.svc", "nobody", "a.b.c.d.e.f.example.org",
		// A name that cannot exist, asked for as such: it looks like the first step of a
		// search, and is the one case that package search gives up.
		"www.example.org.shop.svc.cluster.local",
	}
	lookups := func(walked bool) (found []string, questions float64) {
		snapshots := &fakeSnapshots{}
		o := Options{
			Snapshots: snapshots, TTL: 5 * time.Second, Pods: records.PodsInsecure, ResolvConf: node,
			Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		}
		u.option(&o)
		if walked {
			clients := &fakeClients{}
			clients.pod.Store(shopPod())
			o.Clients = clients
		}
		s, err := New(o)
		must(t, err)
		stop := run(t, s)
		defer stop()
		snapshots.publish(cluster("10.96.0.53"))
		waitFor(t, "the cluster IP", func() bool { return len(s.Serving()) == 2 })
		for range 2 {
			for _, name := range names {
				found = append(found, name+": "+p.getent(podFile, name))
			}
		}
		return found, counted(t, s.metrics.requests, "udp")
	}
	plain, before := lookups(false)
	walked, after := lookups(true)
	for i := range plain {
		if given := strings.HasPrefix(plain[i], names[len(names)-1]); (plain[i] == walked[i]) == given {
			t.Errorf("without walking: %s\nwith: %s", plain[i], walked[i])
		}
	}
	t.Logf("%d look-ups took %.0f questions, walked here %.0f", len(plain), before, after)
	if after > 0.75*before {
		t.Errorf("%d look-ups took %.0f questions, and %.0f when the lists are walked here", len(plain), before, after)
	}
}
