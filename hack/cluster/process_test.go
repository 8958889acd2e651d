package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseStat(t *testing.T) {
	const after = " 1 17 17 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 5 6"
	for _, tt := range []struct {
		text, state string
		start       uint64
		fails       bool
	}{
		{"17 (etcd) S" + after, "S", 4711, false},
		{"17 (a b) c) Z) Z" + after, "Z", 4711, false},
		{"17 (short) S 1 2", "", 0, true},
		{"", "", 0, true},
	} {
		state, start, err := parseStat(tt.text)
		if state != tt.state || start != tt.start || (err != nil) != tt.fails {
			t.Errorf("parseStat(%q) = %q, %d, %v", tt.text, state, start, err)
		}
	}
}

// TestAlive starts a process of its own and ends it.
func TestAlive(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("it is said to have ended")
	}
	if other := (process{PID: p.PID, Start: p.Start + 1}); other.alive() {
		t.Error("a process that had the same number before is said to be alive")
	}
	if err := p.stop(t.Context(), 5*time.Second); err != nil {
		t.Error(err)
	}
	// Nobody has waited for it: it is a zombie.
	if p.alive() {
		t.Error("it is said to be alive after its end")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	if p.alive() || (process{}).alive() {
		t.Error("what is not there is said to be alive")
	}
}

// tree makes folders that look like control groups.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestGroups(t *testing.T) {
	one := map[string]string{
		"cpu/signpost-cluster/pods-node1/pod1/c/cgroup.procs":  "12\n11\n",
		"pids/signpost-cluster/pods-node1/pod1/c/cgroup.procs": "11\n12\n",
		"pids/signpost-cluster/node1/cgroup.procs":             "7\n",
		"pids/cgroup.procs":      "1\n",
		"cpu/cgroup.procs":       "1\n",
		"cpu/other/cgroup.procs": "99\n",
	}
	two := map[string]string{
		"cgroup.procs":                                    "1\n",
		"signpost-cluster/cgroup.procs":                   "",
		"signpost-cluster/node1/cgroup.procs":             "7\n",
		"signpost-cluster/pods-node1/pod1/c/cgroup.procs": "11\n12\n",
		"other/cgroup.procs":                              "99\n",
	}
	for name, files := range map[string]map[string]string{"version 1": one, "version 2": two} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, files)
			for group, want := range map[string][]int{everyGroup: {7, 11, 12}, "node1": {7}, "pods-node1": {11, 12}, "node2": nil} {
				got, err := members(root, group)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("members of %q (-want +got):\n%s", group, diff)
				}
			}
			dirs, err := groups(root, everyGroup)
			if err != nil {
				t.Fatal(err)
			}
			for i, dir := range dirs {
				for _, later := range dirs[i+1:] {
					if len(later) > len(dir) && later[:len(dir)+1] == dir+"/" {
						t.Errorf("%s comes before %s, which is in it", dir, later)
					}
				}
			}
		})
	}
}

func TestGroupOf(t *testing.T) {
	for name, want := range map[string]string{
		"etcd": hostGroup, "kube-apiserver": hostGroup, "outside": hostGroup,
		"node1": "node1", "kubelet-node2": "node2", "kube-proxy-node1": "node1",
	} {
		if got := groupOf(name); got != want {
			t.Errorf("groupOf(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /root/c/node1/run rw - tmpfs tmpfs rw
31 30 0:31 / /root/c/with\040blank rw - tmpfs tmpfs rw
32 22 0:32 / /root/cluster rw - tmpfs tmpfs rw
`
	want := []string{"/root/c/node1/run", "/root/c/with blank"}
	if diff := cmp.Diff(want, mountsBelow(mountinfo, "/root/c")); diff != "" {
		t.Errorf("mountsBelow (-want +got):\n%s", diff)
	}
}

func TestLocalAddress(t *testing.T) {
	const trie = `Main:
  +-- 10.244.1.0/24 2 0 2
        |-- 10.244.1.1
           /32 link UNICAST
        |-- 10.244.1.7
           /32 host LOCAL
`
	for ip, want := range map[string]bool{"10.244.1.7": true, "10.244.1.1": false, "244.1.7": false, "10.244.1.70": false} {
		if got := localAddress(trie, ip); got != want {
			t.Errorf("localAddress(%s) = %v, want %v", ip, got, want)
		}
	}
}

func TestMissingFolders(t *testing.T) {
	root := t.TempDir()
	want := []string{root + "/a", root + "/a/b"}
	if diff := cmp.Diff(want, missingFolders(root+"/a/b")); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if err := os.MkdirAll(root+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := missingFolders(root + "/a/b"); got != nil {
		t.Errorf("missing although they are there: %v", got)
	}
	if err := os.WriteFile(root+"/a/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := removeMade(want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{root + "/a/b"}, missingFolders(root+"/a/b")); diff != "" {
		t.Errorf("removed: what is not empty has to stay (-want +got):\n%s", diff)
	}
}
