package records

import "strings"

// request is a name of the zone, taken apart. All parts but zone are lower case.
//
//	[endpoint.]service.namespace.svc.ZONE
//	_port._protocol.service.namespace.svc.ZONE
//	a-b-c-d.namespace.pod.ZONE
type request struct {
	// zone is spelled as in the question, because targets of records are, too.
	zone string
	// root is the label just below the zone, empty for the zone itself.
	root      string
	namespace string
	service   string
	endpoint  string
	port      string
	protocol  string
	// tooDeep: there are more labels than any name of the zone has.
	tooDeep bool
}

// parse takes name apart; lower is the same name in lower case. It reports false
// for a name that is not in zone.
func parse(name, lower, zone string) (request, bool) {
	base, ok := trimZone(lower, zone)
	if !ok {
		return request{}, false
	}
	r := request{zone: name[len(name)-len(zone):]}
	for _, part := range []*string{&r.root, &r.namespace, &r.service} {
		if base == "" {
			return r, true
		}
		base, *part = lastLabel(base)
	}
	if base == "" {
		return r, true
	}
	var last string
	base, last = lastLabel(base)
	if base == "" {
		r.endpoint = last
		return r, true
	}
	r.protocol = strings.TrimPrefix(last, "_")
	base, last = lastLabel(base)
	r.port = strings.TrimPrefix(last, "_")
	r.tooDeep = base != ""
	return r, true
}

// trimZone returns what stands before zone in name, without the dot between.
func trimZone(name, zone string) (string, bool) {
	i := len(name) - len(zone)
	if i < 0 || name[i:] != zone {
		return "", false
	}
	if i == 0 {
		return "", true
	}
	if name[i-1] != '.' || escaped(name, i-1) {
		return "", false
	}
	return name[:i-1], true
}

// lastLabel cuts the last label off. rest is empty when there was only one.
func lastLabel(s string) (rest, label string) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' && !escaped(s, i) {
			return s[:i], s[i+1:]
		}
	}
	return "", s
}

// escaped reports whether the byte at i is part of a label because a backslash
// stands before it: in text, a label's own dots are written so.
func escaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// lowered returns s with its ASCII letters in lower case, s itself if they are.
// Only ASCII has case in names (RFC 4343).
func lowered(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowerFrom(s, i)
		}
	}
	return s
}

func lowerFrom(s string, i int) string {
	b := []byte(s)
	for ; i < len(b); i++ {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}
