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

// searchFiles writes what the kubelet has and what it makes of that for a pod.
func searchFiles(t *testing.T) (node, pod string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	return write("node", "search corp.example\n"), write("pod",
		"nameserver 10.96.0.53\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:5\n")
}

// searchLab starts a server that may walk search lists, for a pod of namespace shop.
func searchLab(t *testing.T, u *upstream, node string, walked bool) (s *Server, stop func()) {
	t.Helper()
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
	stop = run(t, s)
	snapshots.publish(cluster("10.96.0.53"))
	waitFor(t, "the cluster IP", func() bool { return len(s.Serving()) == 2 })
	return s, stop
}

func questionsTo(t *testing.T, s *Server) int {
	t.Helper()
	return int(counted(t, s.metrics.requests, "udp"))
}

// TestExternalNameCostsOneQuestionOfEachType also the first time that it is looked up.
func TestExternalNameCostsOneQuestionOfEachType(t *testing.T) {
	p, u := newPod(t), startUpstream(t)
	node, file := searchFiles(t)
	for _, tt := range []struct {
		walked bool
		want   int
	}{{false, 2 * 5}, {true, 2}} {
		s, stop := searchLab(t, u, node, tt.walked)
		for i := range 3 {
			before := questionsTo(t, s)
			if got := p.getent(file, "www.example.org"); !strings.HasPrefix(got, "192.0.2.1 ") {
				t.Errorf("walked %v: found %q", tt.walked, got)
			}
			if n := questionsTo(t, s) - before; n != tt.want {
				t.Errorf("walked %v: look-up %d took %d questions, want %d", tt.walked, i+1, n, tt.want)
			}
		}
		stop()
	}
}

// TestGlibcFindsTheSame has a pod's C library look names up at a server that walks
// search lists, and at one that does not: it must find the same, by fewer
// questions.
func TestGlibcFindsTheSame(t *testing.T) {
	p, u := newPod(t), startUpstream(t)
	node, podFile := searchFiles(t)
	names := []string{
		"www.example.org", "www.example.org.", "missing.example.org", "broken.example.org", "example.org", "web.default",
		"web.default.svc", "web.default.svc.cluster.local", "web.default.svc.cluster.local.", "ext.default.svc", "extmissing.default.svc",
		"10-1-0-5.big.default", "10-1-0-5.big.default.svc", "nobody", "a.b.c.d.e.f.example.org",
		// A name that cannot exist, asked for as such: it looks like the first step of a
		// search, and is the one case that package search gives up.
		"www.example.org.shop.svc.cluster.local",
	}
	lookups := func(walked bool) (found []string, questions int) {
		s, stop := searchLab(t, u, node, walked)
		defer stop()
		for range 2 {
			for _, name := range names {
				found = append(found, name+": "+p.getent(podFile, name))
			}
		}
		return found, questionsTo(t, s)
	}
	plain, before := lookups(false)
	walked, after := lookups(true)
	for i := range plain {
		if given := strings.HasPrefix(plain[i], names[len(names)-1]); (plain[i] == walked[i]) == given {
			t.Errorf("without walking: %s\nwith: %s", plain[i], walked[i])
		}
	}
	t.Logf("%d look-ups took %d questions, walked here %d", len(plain), before, after)
	if 4*after > 3*before {
		t.Errorf("%d look-ups took %d questions, and %d when the lists are walked here", len(plain), before, after)
	}
}
