package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/signpost-dev/signpost/hack/cluster/step"
)

func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "owner.json")
	if _, err := readRecord(file); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("readRecord() of nothing = %v, want %v", err, fs.ErrNotExist)
	}
	r := &record{
		Checkout: "/home/ada/signpost", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Proxy: signpost, DNS: nobody,
		Processes: map[string]process{}, Imported: map[string]map[string]string{}, file: file,
	}
	err := r.change(func() {
		r.Processes["etcd"] = process{PID: 7, Start: 42}
		r.MadeFolders = []string{"/etc/cni"}
		r.Imported["node1"] = map[string]string{"pause.tar": "abc"}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got, cmpopts.IgnoreUnexported(record{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if got.process("etcd").Start != 42 || got.process("nobody").PID != 0 || got.imported("node1", "pause.tar") != "abc" || got.imported("node2", "pause.tar") != "" {
		t.Errorf("lookups in %+v", got)
	}
	if err := os.WriteFile(file, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecord(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("readRecord() of half a record = %v, want an error that names the file", err)
	}
}

// TestClaim holds that two checkouts do not collide silently, and that a cluster
// does not change its kind silently.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	written := &record{
		Checkout: "/home/ada/signpost", Proxy: kubeProxy, DNS: nobody,
		Processes: map[string]process{"etcd": self}, file: paths{dir}.record(),
	}
	if err := written.change(func() {}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, checkout, proxy, dns, problem string }{
		{"the owner, saying nothing", "/home/ada/signpost", "", "", ""},
		{"the owner, saying the same", "/home/ada/signpost", kubeProxy, "", ""},
		{"the owner, saying something else", "/home/ada/signpost", signpost, "", "remove it first: go run ./hack/cluster down"},
		{"the owner, saying something else of DNS", "/home/ada/signpost", "", coreDNS, "remove it first: go run ./hack/cluster down"},
		{"somebody else", "/home/bob/signpost", "", "", "belongs to the checkout /home/ada/signpost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cluster{checkout: tt.checkout, paths: paths{dir}, out: &step.Printer{Out: t.Output()}}
			r, err := c.claim(tt.proxy, tt.dns)
			if tt.problem == "" {
				if err != nil || r.Proxy != kubeProxy {
					t.Errorf("claim() = %+v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("claim() = %v, want an error that says %q", err, tt.problem)
			}
		})
	}
}

// TestFree holds that it is said whose cluster is in the way, also to its owner.
func TestFree(t *testing.T) {
	dir := t.TempDir()
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	live := &record{Checkout: "/home/ada/signpost", Processes: map[string]process{"etcd": self}, file: paths{dir}.record()}
	if err := live.change(func() {}); err != nil {
		t.Fatal(err)
	}
	for checkout, want := range map[string]string{
		"/home/ada/signpost": "is up, since",
		"/home/bob/signpost": "belongs to the checkout /home/ada/signpost",
	} {
		err := free(t.Context(), &cluster{checkout: checkout, paths: paths{dir}}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("free() from %s = %v, want an error that says %q", checkout, err, want)
		}
	}
	for _, tt := range []struct {
		owner string
		dead  bool
		ok    bool
	}{
		{"", false, true},
		{"", true, true},
		{"/here", true, true},
		{"/here", false, false}, // a `down` was cut off: there is no record
		{"/there", false, false},
		{"/there", true, false},
	} {
		if err := besides(tt.owner, "/here", tt.dead); (err == nil) != tt.ok {
			t.Errorf("besides(%q, /here, %v) = %v", tt.owner, tt.dead, err)
		}
	}
}

// TestClaimDead holds that a cluster of which nothing runs is in nobody's way:
// that of a checkout which is on another machine by now, for example.
func TestClaimDead(t *testing.T) {
	dir := t.TempDir()
	c := &cluster{checkout: "/home/bob/signpost", paths: paths{dir}}
	if r, err := c.claim("", ""); r != nil || err != nil {
		t.Errorf("claim() of nothing = %+v, %v", r, err)
	}
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self.Start++ // the number is another process's by now
	dead := &record{
		Checkout: "/home/ada/signpost", Proxy: kubeProxy, DNS: nobody,
		Processes: map[string]process{"etcd": self, "node1": {}}, file: paths{dir}.record(),
	}
	if err := dead.change(func() {}); err != nil {
		t.Fatal(err)
	}
	r, err := c.claim(signpost, signpost)
	if err != nil || !r.dead() || r.Checkout != dead.Checkout {
		t.Errorf("claim() = %+v, %v", r, err)
	}
	if err := dead.ownedBy(c.checkout, dir); err != nil {
		t.Errorf("ownedBy() = %v: nobody can want it to stay", err)
	}
}

// TestExclusively holds that two commands that change the cluster do not run at once.
func TestExclusively(t *testing.T) {
	c := &cluster{paths: paths{filepath.Join(t.TempDir(), "sub", "cluster")}}
	err := c.exclusively(func() error {
		if err := c.exclusively(func() error { t.Error("both run"); return nil }); err == nil || !strings.Contains(err.Error(), "another") {
			t.Errorf("the second one: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.exclusively(func() error { return nil }); err != nil {
		t.Errorf("after the first one: %v", err)
	}
}
