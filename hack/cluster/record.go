package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// record says whose the cluster is and what belongs to it. It is a file in
// the cluster's folder, written after each step, so that `down` knows what
// a run that did not get to its end has left.
type record struct {
	Checkout string
	Created  time.Time
	Proxy    string
	DNS      string
	// MadeFolders are folders outside of the cluster's that were made for it.
	MadeFolders []string
	// Processes by name. One that has ended may still be named.
	Processes map[string]process
	// Imported is, by node and image file, the digest of what was imported last.
	Imported map[string]map[string]string

	mu   sync.Mutex
	file string
}

// readRecord reads the record. Without one, its error wraps fs.ErrNotExist.
func readRecord(file string) (*record, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &record{file: file}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if r.Processes == nil {
		r.Processes = map[string]process{}
	}
	if r.Imported == nil {
		r.Imported = map[string]map[string]string{}
	}
	return r, nil
}

// change changes the record and writes it, whole or not at all.
func (r *record) change(f func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temp := r.file + ".new"
	if err := os.WriteFile(temp, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, r.file)
}

func (r *record) process(name string) process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Processes[name]
}

func (r *record) imported(node, image string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Imported[node][image]
}

// dead says that none of the cluster's processes runs: they were killed, or the
// machine was started anew. What is left then serves nobody.
func (r *record) dead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.Processes {
		if p.alive() {
			return false
		}
	}
	return true
}

// ownedBy returns nil if the checkout may change the cluster, as it is its own or
// dead, else a sentence.
func (r *record) ownedBy(checkout, dir string) error {
	if r.Checkout == checkout || r.dead() {
		return nil
	}
	return fmt.Errorf("the cluster in %s belongs to the checkout %s, since %s; to remove it: (cd %s && go run ./hack/cluster down), or from here: go run ./hack/cluster down --force",
		dir, r.Checkout, r.Created.Format(time.DateTime), r.Checkout)
}

// running returns the record of a cluster that is up and may be used from
// anywhere: by kubectl, for example.
func (c *cluster) running() (*record, error) {
	r, err := readRecord(c.paths.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no cluster is up in %s; start one: go run ./hack/cluster up", c.paths.dir)
	}
	return r, err
}

// owned is running, for what changes the cluster.
func (c *cluster) owned() (*record, error) {
	r, err := c.running()
	if err != nil {
		return nil, err
	}
	return r, r.ownedBy(c.checkout, c.paths.dir)
}

// exclusively runs f while no other process changes the cluster.
func (c *cluster) exclusively(f func() error) error {
	if err := os.MkdirAll(filepath.Dir(c.paths.lock()), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(c.paths.lock(), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and so unlocked
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another `go run ./hack/cluster` is changing the cluster in %s: wait until it has ended", c.paths.dir)
	}
	return f()
}
