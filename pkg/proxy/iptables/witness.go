package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Witness says whether somebody else has written to the tables, at the price of
// a system call or two, whatever is in them. One is shared by the Tables of both
// families of a backend.
//
// With nft it is exact: the kernel numbers the writes of a network namespace, and
// those of Tables are known. With legacy it is the number and the size of the rules of each
// table, so that a rule that has been replaced by one of the same size is not
// noticed, nor what others write in the milliseconds before a write of ours.
//
// Not safe for concurrent use, as Tables are not.
type Witness struct {
	take func() (mark, error)
	// exact: each write adds one to the first number of a mark.
	exact bool
	last  mark
	// touched are the families that somebody else may have written to.
	touched map[ruleset.Family]bool
}

// mark is what the kernel says of the tables; two equal ones mean that nobody
// has written in between.
type mark [6]uint64

// NewWitness returns a Witness that has seen nothing yet.
func NewWitness(b Backend) *Witness {
	w := &Witness{touched: map[ruleset.Family]bool{}}
	w.touch()
	if b == NFT {
		w.take, w.exact = generation, true
	} else {
		w.take = sizes
	}
	return w
}

// untouched reports whether surely nobody else has written to the tables of
// family since they were read.
func (w *Witness) untouched(family ruleset.Family) (bool, error) {
	if err := w.look(0); err != nil {
		return false, err
	}
	return !w.touched[family], nil
}

// look takes a mark. What it differs from the last one by, but for own writes, is
// the work of others.
func (w *Witness) look(own int) error {
	now, err := w.take()
	if err != nil {
		w.touch()
		return err
	}
	expected := w.last
	expected[0] += uint64(own)
	if now != expected && (w.exact || own == 0) {
		w.touch()
	}
	w.last = now
	return nil
}

func (w *Witness) touch() { w.touched[ruleset.IPv4], w.touched[ruleset.IPv6] = true, true }

// during runs f, which writes as many times as it returns, or nobody knows how
// often if that is negative.
func (w *Witness) during(f func() (writes int, err error)) error {
	// A failure to look leaves the tables touched, which is what to do about it.
	_ = w.look(0)
	n, err := f()
	if n < 0 {
		w.touch()
		n = 0
	}
	_ = w.look(n)
	return err
}

// read runs f, which reads all rules of family.
func (w *Witness) read(family ruleset.Family, f func() error) error {
	if lookErr := w.look(0); lookErr == nil {
		w.touched[family] = false
	}
	if err := f(); err != nil {
		w.touched[family] = true
		return err
	}
	_ = w.look(0)
	return nil
}

// What linux/netfilter/nf_tables.h calls NFT_MSG_GETGEN and NFTA_GEN_ID.
const (
	getGeneration = 16
	generationID  = 1
)

// generation is the number of writes to nftables in the network namespace of the
// thread.
func generation() (mark, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return mark{}, fmt.Errorf("asking for the generation of nftables: %w", err)
	}
	for _, a := range answers {
		attrs, err := nl.ParseRouteAttr(a[min(nl.SizeofNfgenmsg, len(a)):])
		if err != nil {
			return mark{}, fmt.Errorf("generation of nftables: %w", err)
		}
		i := slices.IndexFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == generationID && len(a.Value) == 4 })
		if i >= 0 {
			return mark{uint64(binary.BigEndian.Uint32(attrs[i].Value))}, nil
		}
	}
	return mark{}, errors.New("nftables does not say its generation")
}

// getInfo is IPT_SO_GET_INFO of linux/netfilter_ipv4/ip_tables.h, and as well
// IP6T_SO_GET_INFO.
const getInfo = 64

// tableInfo is struct ipt_getinfo, and as well struct ip6t_getinfo.
type tableInfo struct {
	name    [32]byte
	_       uint32    // valid_hooks
	_       [5]uint32 // hook_entry
	_       [5]uint32 // underflow
	entries uint32
	size    uint32
}

// sizes are the numbers and sizes of the legacy rules of each table, in the
// network namespace of the thread.
func sizes() (mark, error) {
	var out mark
	for i, family := range []struct {
		names         string
		domain, level int
	}{
		{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP},
		{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6},
	} {
		// Only of tables that are in use, as to ask for another one is to load it.
		loaded, err := os.ReadFile(family.names)
		if err != nil {
			continue
		}
		fd, err := unix.Socket(family.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return out, fmt.Errorf("socket to ask for the sizes of tables: %w", err)
		}
		for j, table := range ruleset.Tables() {
			if slices.Contains(strings.Fields(string(loaded)), string(table)) {
				if out[3*i+j], err = size(fd, family.level, table); err != nil {
					break
				}
			}
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return out, err
		}
	}
	return out, nil
}

func size(fd, level int, table ruleset.Table) (uint64, error) {
	info := tableInfo{}
	copy(info.name[:], table)
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("asking for the size of table %s: %w", table, errno)
	}
	return uint64(info.entries)<<32 | uint64(info.size), nil
}
