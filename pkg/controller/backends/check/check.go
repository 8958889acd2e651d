package check

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Kind is how a backend is asked.
type Kind string

// The kinds.
const (
	HTTP  Kind = "http"
	HTTPS Kind = "https"
	TCP   Kind = "tcp"
	GRPC  Kind = "grpc"
)

// Check is how each backend of a Service is checked.
type Check struct {
	Kind Kind
	// Port is a number, the name of a port, or empty for the first TCP port.
	Port string
	// Path and Host are those of an HTTP request; Host may be empty, for that of
	// the backend. Host is also for GRPC, and Service is for GRPC alone.
	Path, Host, Service string
	// Interval is how long to wait between two checks by one node, and Timeout how
	// long one may take.
	Interval, Timeout time.Duration
	// Failures and Successes are how many checks in a row take a backend out, and
	// bring it back; at least 1.
	Failures, Successes int
}

// Key stands for a backend of a Service and a way to check it, the same on all
// nodes. With a Service that was made anew, or another way to check, it is another.
type Key [16]byte

// Target is a backend to check.
type Target struct {
	Key   Key
	Check Check
	At    netip.AddrPort
}

// KeyOf returns the Key of a backend.
func (c *Check) KeyOf(service types.UID, at netip.AddrPort) Key {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %d %d %d %d %s",
		service, c.Kind, c.Path, c.Host, c.Service, c.Interval, c.Timeout, c.Failures, c.Successes, at))
	return Key(sum[:16])
}

// PortOf returns which of the ports of a slice is checked.
func (c *Check) PortOf(ports []discoveryv1.EndpointPort) (uint16, error) {
	if n, err := strconv.ParseUint(c.Port, 10, 16); err == nil {
		return uint16(n), nil
	}
	for i := range ports {
		p := &ports[i]
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		switch {
		case c.Port != "" && p.Name != nil && *p.Name == c.Port,
			c.Port == "" && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP):
			return uint16(*p.Port), nil
		}
	}
	if c.Port != "" {
		return 0, fmt.Errorf("no port is called %q", c.Port)
	}
	return 0, fmt.Errorf("there is no TCP port: say which port is to be checked")
}

// AddrOf returns the address of an endpoint, or false if it has none.
func AddrOf(e *discoveryv1.Endpoint) (netip.Addr, bool) {
	if len(e.Addresses) == 0 {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// Targets returns what there is to check behind a Service, whose backends these
// slices have, each once.
func (c *Check) Targets(service types.UID, slices []*discoveryv1.EndpointSlice) []Target {
	var out []Target
	seen := map[netip.AddrPort]bool{}
	for _, s := range slices {
		port, err := c.PortOf(s.Ports)
		if err != nil {
			continue
		}
		for i := range s.Endpoints {
			addr, ok := AddrOf(&s.Endpoints[i])
			at := netip.AddrPortFrom(addr, port)
			if !ok || seen[at] {
				continue
			}
			seen[at] = true
			out = append(out, Target{c.KeyOf(service, at), *c, at})
		}
	}
	return out
}
