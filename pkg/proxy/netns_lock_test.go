//go:build netns

package proxy_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRealLockHeldForLong has another program hold the lock of the legacy tables for
// twice as long as anybody waits for it. What is there works on, and what came
// meanwhile is written once the lock is free.
func TestRealLockHeldForLong(t *testing.T) {
	const held = 10 * time.Second
	n := newField(t, "legacy")
	n.serve(n.Pod("a"), n.Pod("b"))
	n.start()
	old, late := n.dual(1, 0, "a"), n.dual(2, 0, "b")
	n.publish(old)
	var lock *os.File
	err := n.Node.DoAlone(func() (err error) {
		if lock, err = os.Create("/run/xtables.lock"); err == nil {
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	taken := time.Now()
	n.source.publish(old, late)
	generation := n.source.Snapshot().Generation
	for time.Since(taken) < held {
		if got := n.who(n.Pod("client"), "tcp", vip(old, 0), 1); got["a"] != 1 {
			t.Errorf("while the lock is held: %v", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n.proxy.Programmed() >= generation {
		t.Error("rules are said to be in that cannot have been written")
	}
	released := time.Now()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	n.settle()
	after := time.Since(released)
	t.Logf("written %v after the lock was released, which was held for %v", after, held)
	if after > held/4 {
		t.Error("what the lock has cost is waited for once more")
	}
	if got := n.who(n.Pod("client"), "tcp", vip(late, 0), 1); got["b"] != 1 {
		t.Errorf("afterwards: %v", got)
	}
}
