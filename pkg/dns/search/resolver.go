package search

import (
	"slices"
	"strconv"
	"strings"
)

// Limits of the resolvers that there are. What a list holds beyond the first two,
// old versions of glibc ignore and new ones do not.
const (
	maxDomains    = 6
	maxListLength = 256
	maxNdots      = 15
	maxName       = 253
)

// Limits of the kubelet, which cuts lists that are longer.
const (
	kubeletMaxDomains    = 32
	kubeletMaxListLength = 2048
)

// Resolver is what of a resolv.conf decides how names are searched for.
type Resolver struct {
	// Domains are tried in this order. Lower case, without a dot at the end.
	Domains []string
	// Ndots is how many dots a name must have to be tried as it is first, 0 to 15.
	Ndots int
}

// Policy is a pod's dnsPolicy.
type Policy string

// The policies that there are. The empty one is ClusterFirst.
const (
	ClusterFirst            Policy = "ClusterFirst"
	ClusterFirstWithHostNet Policy = "ClusterFirstWithHostNet"
	Default                 Policy = "Default"
	None                    Policy = "None"
)

// Option is an option of a pod's dnsConfig; without a value, Value is empty.
type Option struct{ Name, Value string }

// Pod is what of a pod decides about its resolv.conf.
type Pod struct {
	Namespace string
	// HostNetwork pods share the node's address, so nobody can tell them apart.
	HostNetwork bool
	Policy      Policy
	// Searches and Options are those of the dnsConfig.
	Searches []string
	Options  []Option
}

// ForPod returns what the kubelet writes into the pod's resolv.conf, where node
// is the file that it was given and domain that of the cluster. ok is false if the
// pod cannot be known by its address or does not ask this server.
func ForPod(p Pod, node Resolver, domain string) (r Resolver, ok bool) {
	if p.HostNetwork {
		return Resolver{}, false
	}
	domain = canonical(domain)
	switch p.Policy {
	case ClusterFirst, ClusterFirstWithHostNet, "":
		r.Domains = []string{canonical(p.Namespace) + ".svc." + domain, "svc." + domain, domain}
		for _, s := range node.Domains {
			r.Domains = append(r.Domains, canonical(s))
		}
		r.Ndots = 5
	case None:
		r.Ndots = 1
	case Default:
		return Resolver{}, false
	default:
		return Resolver{}, false
	}
	for _, s := range p.Searches {
		r.Domains = append(r.Domains, canonical(s))
	}
	r.Domains = cut(unique(r.Domains))
	for _, o := range p.Options {
		if o.Name == "ndots" {
			r.Ndots = ndots(o.Value)
		}
	}
	return r, true
}

// ParseResolvConf returns what a node's resolv.conf says of searching, as the
// kubelet reads it.
func ParseResolvConf(text string) Resolver {
	r := Resolver{Ndots: 1}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		switch fields[0] {
		case "search":
			r.Domains = nil
			for _, s := range fields[1:] {
				if s != "." {
					r.Domains = append(r.Domains, canonical(s))
				}
			}
		case "options":
			for _, o := range fields[1:] {
				if value, ok := strings.CutPrefix(o, "ndots:"); ok {
					r.Ndots = ndots(value)
				}
			}
		}
	}
	return r
}

// ndots reads the value of the option as the C libraries do. Without a value it
// has no effect.
func ndots(value string) int {
	digits := value
	if i := strings.IndexFunc(value, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		digits = value[:i]
	}
	n, err := strconv.Atoi(digits)
	switch {
	case value == "":
		return 1
	case digits == "":
		return 0
	case err != nil || n > maxNdots:
		return maxNdots
	}
	return n
}

// usable reports whether all resolvers read the list in the same way.
func (r Resolver) usable() bool {
	length := 0
	for _, d := range r.Domains {
		if d == "" || strings.ContainsAny(d, `\ `) {
			return false // the root, or what needs thought
		}
		length += len(d) + 1
	}
	return len(r.Domains) > 0 && len(r.Domains) <= maxDomains && length <= maxListLength
}

// canonical returns s in lower case and without a dot at its end.
func canonical(s string) string { return lower(strings.TrimSuffix(s, ".")) }

// lower leaves all but ASCII alone, as DNS does.
func lower(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return 'A' <= c && c <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// cut leaves out what the kubelet leaves out.
func cut(domains []string) []string {
	domains = domains[:min(len(domains), kubeletMaxDomains)]
	domains = slices.DeleteFunc(domains, func(d string) bool { return len(d) > maxName })
	length := -1
	for i, d := range domains {
		if length += len(d) + 1; length > kubeletMaxListLength {
			return domains[:i]
		}
	}
	return domains
}
