package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace. Its methods may be called concurrently.
type Namespace struct {
	// Name is what the servers in it answer with.
	Name string
	// Addrs are the addresses on its link, without those of the loopback.
	Addrs  []netip.Addr
	handle netns.NsHandle
	ports  atomic.Uint32 // how many datagrams have been sent

	mu     sync.Mutex
	mounts *os.File // the mount namespace of DoAlone; nil before its first call
}

// newNamespace makes a namespace without a name in the file system: it lives as long
// as its handle, and dies with the process in any case.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name}
	err := onOwnThread(func() error {
		h, err := netns.New()
		n.handle = h
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making network namespace %s (needs root): %w", name, err)
	}
	err = n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("setting up lo in %s: %w", name, err), n.close())
	}
	return n, nil
}

func (n *Namespace) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.handle.Close()
	if n.mounts != nil {
		err = errors.Join(err, n.mounts.Close())
	}
	return err
}

// onOwnThread runs f on a thread that ends with it, so that f may leave the
// thread in any state.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// Do runs f on a thread that is in the namespace. Goroutines that f starts are not;
// processes that f itself starts are. /sys is that of the namespace, too.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// DoAlone is Do with a /run that only the processes of this namespace see, so
// that they share the lock file of legacy iptables with each other, but neither with
// other namespaces nor with the machine itself.
func (n *Namespace) DoAlone(f func() error) error {
	return n.Do(func() error {
		if err := n.enterMounts(); err != nil {
			return err
		}
		return f()
	})
}

// enterMounts takes the calling thread to the mount namespace of n.
func (n *Namespace) enterMounts() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mounts != nil {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // or the kernel refuses the next call
			return fmt.Errorf("leaving the other threads' directory: %w", err)
		}
		if err := unix.Setns(int(n.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("entering the mount namespace of %s: %w", n.Name, err)
		}
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting a /run of its own: %w", err)
	}
	var err error
	n.mounts, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}

// Command runs a program in the namespace, with stdin if it is not empty, and
// returns what it prints. The error contains what it says on stderr.
func (n *Namespace) Command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	err := n.DoAlone(func() error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
		return cmd.Run()
	})
	if err != nil {
		return stdout.String(), fmt.Errorf("%s %s in %s: %w: %s", name, strings.Join(args, " "), n.Name, err, stderr.String())
	}
	return stdout.String(), nil
}

// Sysctl sets a value below /proc/sys/net, such as "ipv4/ip_forward".
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// AddAddr gives the loopback another address, which makes it one of the node. It
// returns when packets for it are delivered: the kernel makes the route of an IPv6
// address a moment after the address.
func (n *Namespace) AddAddr(a netip.Addr) error {
	if err := n.addr(a, netlink.AddrAdd); err != nil {
		return err
	}
	return n.Do(func() error {
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			routes, err := netlink.RouteGet(a.AsSlice())
			if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
				return nil
			}
		}
		return fmt.Errorf("the kernel has made no local route to %s in %s", a, n.Name)
	})
}

// DelAddr takes an address from the loopback.
func (n *Namespace) DelAddr(a netip.Addr) error {
	return n.addr(a, netlink.AddrDel)
}

func (n *Namespace) addr(a netip.Addr, change func(netlink.Link, *netlink.Addr) error) error {
	return n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return change(lo, ipAddr(netip.PrefixFrom(a, a.BitLen())))
	})
}
