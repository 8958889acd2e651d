package announcing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
	"github.com/signpost-dev/signpost/test/netlab"
)

// Rig is some nodes on a link, and a host that is a Witness of what they say.
type Rig struct {
	Segment *netlab.Segment
	Witness *Witness
	// Names are those of the nodes.
	Names     []string
	Addresses []netip.Addr
	Processes map[string]*Process
	Verbose   bool
	macs      map[frame.MAC]string
	nodes     map[string]netip.Addr
}

// The other hosts of a Rig.
const (
	outside  = "outside"
	Stranger = "stranger"
)

// Addresses returns up to 10,000 addresses that no host has, by turns of both
// families. The first hundred are of the link's networks.
func Addresses(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		switch {
		case i%2 == 1:
			out = append(out, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(1 + i>>8), 15: byte(i)}))
		case i < 100:
			out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}))
		default:
			out = append(out, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
		}
	}
	return out
}

// NewRig makes a link with nodes that may announce addresses, none of which runs
// yet, and asks for the addresses once in a period. Call Close.
func NewRig(names []string, addresses []netip.Addr, period time.Duration) (*Rig, error) {
	r := &Rig{Names: names, Addresses: addresses, Processes: map[string]*Process{}, macs: map[frame.MAC]string{}, nodes: map[string]netip.Addr{}}
	if err := r.build(period); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rig) build(period time.Duration) error {
	var err error
	if r.Segment, err = netlab.NewSegment(append(slices.Clone(r.Names), outside, Stranger)...); err != nil {
		return err
	}
	for _, name := range r.Names {
		host := r.Segment.Host(name)
		r.nodes[name] = host.Addrs[0]
		if err := host.Do(func() error {
			eth0, err := net.InterfaceByName("eth0")
			if err == nil {
				r.macs[frame.MAC(eth0.HardwareAddr)] = name
			}
			return err
		}); err != nil {
			return err
		}
	}
	r.Witness, err = NewWitness(r.Segment.Host(outside), r.Addresses, period)
	return err
}

// Close stops all, and removes it.
func (r *Rig) Close() error {
	var err error
	if r.Witness != nil {
		err = r.Witness.Close()
	}
	for _, p := range r.Processes {
		p.Stop()
	}
	if r.Segment != nil {
		err = errors.Join(err, r.Segment.Close())
	}
	return err
}

// Node is what a node of the rig is told.
func (r *Rig) Node(name string) Node {
	return Node{Name: name, Nodes: r.nodes, Addresses: r.Addresses, Verbose: r.Verbose}
}

// Start starts a node.
func (r *Rig) Start(name string) error {
	p, err := Start(r.Segment.Host(name), r.Node(name))
	if err == nil {
		r.Processes[name] = p
	}
	return err
}

// Name returns whose interface it is: the name of a node, or what it looks like.
func (r *Rig) Name(mac frame.MAC) string {
	if name, ok := r.macs[mac]; ok {
		return name
	}
	return mac.String()
}

// Owner returns who answers for an address now; empty if nobody does.
func (r *Rig) Owner(address netip.Addr) string {
	if mac, ok := r.Witness.Owner(address); ok {
		return r.Name(mac)
	}
	return ""
}

// Owners returns who answers for each address now.
func (r *Rig) Owners() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, a := range r.Addresses {
		out[a] = r.Owner(a)
	}
	return out
}

// Owned says whether each address has an owner, and none of these.
func Owned(owners map[netip.Addr]string, but ...string) bool {
	for _, owner := range owners {
		if owner == "" || slices.Contains(but, owner) {
			return false
		}
	}
	return true
}

// Fault is what can happen to a node.
type Fault string

// The faults. A node that is Frozen finds all questions when it is not any more that
// were asked meanwhile. With those that cut a node off from the others, the witness still
// hears everything that it says on the link: it is not told from one that is well.
const (
	Killed     Fault = "kill -9"
	Unplugged  Fault = "link down"
	CutOff     Fault = "cut off both ways"
	Deaf       Fault = "cut off, inwards"
	Mute       Fault = "cut off, outwards"
	Frozen     Fault = "frozen"
	ToldToStop Fault = "told to stop"
)

// Faults are all of them.
func Faults() []Fault { return []Fault{Killed, Unplugged, CutOff, Deaf, Mute, Frozen, ToldToStop} }

// Do has it happen to a node.
func (r *Rig) Do(ctx context.Context, f Fault, node string) error {
	switch f {
	case Killed:
		r.Processes[node].Kill()
	case ToldToStop:
		r.Processes[node].Stop()
	case Frozen:
		return r.Processes[node].Signal(syscall.SIGSTOP)
	case Unplugged:
		return r.Segment.Plug(node, false)
	case Deaf:
		return r.filter(ctx, node, "-A INPUT -i eth0 -j DROP")
	case Mute:
		return r.filter(ctx, node, "-A OUTPUT -o eth0 -j DROP")
	case CutOff:
		return r.filter(ctx, node, "-A INPUT -i eth0 -j DROP\n-A OUTPUT -o eth0 -j DROP")
	default:
		return fmt.Errorf("no such fault: %q", f)
	}
	return nil
}

// Undo mends it.
func (r *Rig) Undo(ctx context.Context, f Fault, node string) error {
	switch f {
	case Killed, ToldToStop:
		return r.Start(node)
	case Frozen:
		return r.Processes[node].Signal(syscall.SIGCONT)
	case Unplugged:
		return r.Segment.Plug(node, true)
	default:
		return r.filter(ctx, node, "")
	}
}

// filter replaces the rules of a node. Packet sockets are before and behind them.
func (r *Rig) filter(ctx context.Context, node, rules string) error {
	_, err := r.Segment.Host(node).Command(ctx, "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"+rules+"\nCOMMIT\n", "iptables-restore")
	return err
}
