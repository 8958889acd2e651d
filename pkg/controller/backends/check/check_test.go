package check

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func port(name string, protocol corev1.Protocol, n int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &n}
}

func TestPortOf(t *testing.T) {
	ports := []discoveryv1.EndpointPort{{Name: new("all")}, port("dns", corev1.ProtocolUDP, 53), port("http", corev1.ProtocolTCP, 8080), port("admin", corev1.ProtocolTCP, 9090)}
	for asked, want := range map[string]uint16{"": 8080, "admin": 9090, "dns": 53, "1234": 1234} {
		if got, err := (&Check{Port: asked}).PortOf(ports); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", asked, got, err, want)
		}
	}
	if n := int32(80); true {
		if got, err := (&Check{}).PortOf([]discoveryv1.EndpointPort{{Port: &n}}); err != nil || got != 80 {
			t.Errorf("without protocol: %d, %v", got, err)
		}
	}
	for asked, ports := range map[string][]discoveryv1.EndpointPort{"": ports[:2], "web": ports, "all": ports} {
		if got, err := (&Check{Port: asked}).PortOf(ports); err == nil {
			t.Errorf("%q: %d", asked, got)
		}
	}
}

func slice(addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{port("", corev1.ProtocolTCP, 80)}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func TestTargets(t *testing.T) {
	c := defaults(TCP, nil)
	empty := slice()
	empty.Endpoints = []discoveryv1.Endpoint{{}}
	udp := slice("192.0.2.9")
	udp.Ports[0] = port("", corev1.ProtocolUDP, 53)
	var got []string
	for _, target := range c.Targets("uid", []*discoveryv1.EndpointSlice{slice("192.0.2.1", "192.0.2.2"), slice("192.0.2.2", "2001:db8::1", "example.com"), empty, udp}) {
		got = append(got, target.At.String())
		if target.Key != c.KeyOf("uid", target.At) || target.Check != *c {
			t.Errorf("%+v", target)
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestKeysDiffer: if anything about a check is different, what was found by the
// other one says nothing.
func TestKeysDiffer(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:80")
	base := defaults(HTTP, nil)
	seen := map[Key]string{base.KeyOf("uid", at): "base"}
	note := func(what string, k Key) {
		if seen[k] != "" {
			t.Errorf("%s is as %s", what, seen[k])
		}
		seen[k] = what
	}
	note("another Service", base.KeyOf("uid-2", at))
	note("another backend", base.KeyOf("uid", netip.MustParseAddrPort("192.0.2.1:81")))
	for what, change := range map[string]func(*Check){
		"kind": func(c *Check) { c.Kind = HTTPS }, "path": func(c *Check) { c.Path = "/x" }, "host": func(c *Check) { c.Host = "/x" },
		"service": func(c *Check) { c.Service = "/x" }, "interval": func(c *Check) { c.Interval++ }, "timeout": func(c *Check) { c.Timeout++ },
		"failures": func(c *Check) { c.Failures++ }, "successes": func(c *Check) { c.Successes++ },
	} {
		c := *base
		change(&c)
		note(what, c.KeyOf("uid", at))
	}
}
