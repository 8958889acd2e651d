package records

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// reverseShards is how many parts the index has: a change copies those that it
// touches, at 100,000 endpoints some 100 entries each.
const reverseShards = 1024

// reverseIndex finds the owners of an address. It is immutable: next returns a
// changed copy that shares what is the same. The zero value is empty.
type reverseIndex struct {
	shards *[reverseShards]map[netip.Addr][]owner
}

// owner is a Service that has the address, as its own or as a ready endpoint's.
type owner struct {
	service model.Name
	// endpoint is false for an address of the Service itself.
	endpoint bool
	// hostname is that of the endpoint, empty if it is named by its address.
	hostname string
}

func (o owner) compare(p owner) int {
	if o.endpoint != p.endpoint {
		return cmp.Compare(boolInt(o.endpoint), boolInt(p.endpoint))
	}
	return cmp.Or(o.service.Compare(p.service), cmp.Compare(o.hostname, p.hostname))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// addressOf is one entry of the index.
type addressOf struct {
	addr  netip.Addr
	owner owner
}

var reverseSeed = maphash.MakeSeed()

func reverseShard(a netip.Addr) int {
	return int(maphash.Comparable(reverseSeed, a) % reverseShards)
}

// owners returns the owners of a: the Services first, then endpoints, by name.
func (x reverseIndex) owners(a netip.Addr) []owner {
	if x.shards == nil {
		return nil
	}
	return x.shards[reverseShard(a)][a]
}

// next returns the index of newer, given that x is that of older.
func (x reverseIndex) next(older, newer *model.ServiceMap) reverseIndex {
	changed := newer.Diff(older)
	if len(changed) == 0 {
		return x
	}
	w := reverseWriter{}
	if x.shards != nil {
		w.shards = *x.shards
	}
	for _, name := range changed {
		was, is := addressesOf(older.Get(name)), addressesOf(newer.Get(name))
		for e := range was {
			if _, stays := is[e]; !stays {
				w.remove(e)
			}
		}
		for e := range is {
			if _, already := was[e]; !already {
				w.add(e)
			}
		}
	}
	return reverseIndex{&w.shards}
}

// addressesOf returns what svc, which may be nil, puts into the index.
func addressesOf(svc *model.Service) map[addressOf]struct{} {
	if svc == nil {
		return nil
	}
	out := map[addressOf]struct{}{}
	for _, a := range svc.ClusterIPs {
		out[addressOf{a, owner{service: svc.Name}}] = struct{}{}
	}
	for i := range svc.Groups {
		for _, e := range svc.Groups[i].Endpoints {
			if e.Ready {
				out[addressOf{e.Addr, owner{svc.Name, true, e.Hostname}}] = struct{}{}
			}
		}
	}
	return out
}

// reverseWriter makes a changed copy of an index. It copies a shard when it first
// writes to it, and owners' slices always, as readers of the old index hold them.
type reverseWriter struct {
	shards [reverseShards]map[netip.Addr][]owner
	mine   [reverseShards]bool
}

func (w *reverseWriter) shard(a netip.Addr) map[netip.Addr][]owner {
	i := reverseShard(a)
	if !w.mine[i] {
		w.mine[i] = true
		w.shards[i] = maps.Clone(w.shards[i])
		if w.shards[i] == nil {
			w.shards[i] = map[netip.Addr][]owner{}
		}
	}
	return w.shards[i]
}

func (w *reverseWriter) add(e addressOf) {
	shard := w.shard(e.addr)
	was := shard[e.addr]
	i, found := slices.BinarySearchFunc(was, e.owner, owner.compare)
	if !found {
		shard[e.addr] = slices.Insert(slices.Clip(was), i, e.owner)
	}
}

func (w *reverseWriter) remove(e addressOf) {
	shard := w.shard(e.addr)
	was := shard[e.addr]
	i, found := slices.BinarySearchFunc(was, e.owner, owner.compare)
	switch {
	case !found:
	case len(was) == 1:
		delete(shard, e.addr)
	default:
		shard[e.addr] = slices.Concat(was[:i], was[i+1:])
	}
}

// pointer answers a PTR question for an address of the cluster, and leaves all
// others to those who know them.
func (v *View) pointer(name, lower string, basis *Basis) Answer {
	addr, ok := parseReverse(lower)
	if !ok {
		return Answer{Forward: true}
	}
	owners := v.reverse.owners(addr)
	basis.addOwners(addr, owners)
	if len(owners) == 0 {
		return Answer{Forward: true}
	}
	if !owners[0].endpoint {
		owners = owners[:1]
	}
	a := Answer{Answer: make([]dns.RR, len(owners))}
	for i, o := range owners {
		a.Answer[i] = &dns.PTR{Hdr: v.header(name, dns.TypePTR), Ptr: o.domain(addr, v.zone)}
	}
	return a
}

func (o owner) domain(addr netip.Addr, zone string) string {
	domain := serviceDomain(o.service, zone)
	switch {
	case !o.endpoint:
		return domain
	case o.hostname != "":
		return o.hostname + "." + domain
	}
	return dashed(addr) + "." + domain
}

// parseReverse reads a name of in-addr.arpa or ip6.arpa that stands for one
// address.
func parseReverse(lower string) (netip.Addr, bool) {
	if base, ok := trimZone(lower, "in-addr.arpa."); ok {
		return parseReverse4(base)
	}
	if base, ok := trimZone(lower, "ip6.arpa."); ok {
		return parseReverse6(base)
	}
	return netip.Addr{}, false
}

func parseReverse4(base string) (netip.Addr, bool) {
	parts := strings.Split(base, ".")
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	slices.Reverse(parts)
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	return a, err == nil && a.Is4()
}

// parseReverse6 reads 32 digits with dots between, the last digit first.
func parseReverse6(base string) (netip.Addr, bool) {
	if len(base) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		if i > 0 && base[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		d := strings.IndexByte("0123456789abcdef", base[2*i])
		if d < 0 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(d) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
