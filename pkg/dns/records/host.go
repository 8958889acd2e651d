package records

import (
	"net/netip"
	"strings"

	"github.com/signpost-dev/signpost/pkg/model"
)

// hostOf returns the name of an endpoint below its Service: the one that it was
// given, or its address with dashes for dots or colons.
func hostOf(e *model.Endpoint) string {
	if e.Hostname != "" {
		return e.Hostname
	}
	return dashed(e.Addr)
}

func dashed(a netip.Addr) string {
	if a.Is4() {
		return strings.ReplaceAll(a.String(), ".", "-")
	}
	label := strings.ReplaceAll(a.String(), ":", "-")
	if strings.HasSuffix(label, "-") {
		// A label does not end so (RFC 1123, 2.1): the last zero of "::" is written.
		label += "0"
	}
	return label
}

// undashed reads what dashed wrote, and other spellings of the same address.
func undashed(label string) (netip.Addr, bool) {
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	if strings.IndexByte(label, '%') >= 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	return a.Unmap(), err == nil
}

// host is the endpoint's label of a question, read once and then compared with
// many endpoints. The zero value is any endpoint.
type host struct {
	label string
	addr  netip.Addr
}

func parseHost(label string) host {
	h := host{label: label}
	if label != "" && strings.IndexByte(label, '-') >= 0 {
		h.addr, _ = undashed(label)
	}
	return h
}

func (h host) is(e *model.Endpoint) bool {
	switch {
	case h.label == "":
		return true
	case e.Hostname != "":
		return strings.EqualFold(h.label, e.Hostname)
	}
	return h.addr == e.Addr && dashed(e.Addr) == h.label
}
