package forward

import (
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxPositive and maxNegative bound how long answers are kept, whatever their
	// TTLs say. kubeadm's Corefile has 30 s for both. For what exists that only
	// makes work, as the TTL is the owner's word; what does not exist yet is waited
	// for by somebody.
	maxPositive = time.Hour
	maxNegative = 30 * time.Second
	// servfailFor is how long it is remembered that nobody had an answer (RFC 2308
	// section 7 and RFC 9520 allow 1 s to 5 min).
	servfailFor = 5 * time.Second
	// maxTTL is what longer TTLs are cut to, in seconds; those of 2^31 and more mean
	// none (RFC 2181 section 8).
	maxTTL = 86400
	// maxChain is how many aliases may lead to an answer. No resolver that works
	// for people follows more.
	maxChain = 16
)

var (
	errChain    = errors.New("the chain of aliases is too long")
	errTooLarge = errors.New("the answer is too large")
)

// sift returns of m what answers k, and nothing else: the chain of aliases that
// begins at the name asked for, the records of the type asked for at its end,
// and in the authority section what says why there is nothing. What an upstream
// says of other names is neither kept nor passed on, for nobody asked.
func sift(m *dns.Msg, k key) (*dns.Msg, error) {
	name := k.text()
	chain, err := follow(m.Answer, name, k.qtype)
	if err != nil {
		return nil, err
	}
	out := &dns.Msg{MsgHdr: m.MsgHdr}
	if m.Rcode > rcodeOf {
		// The rest of it would stand in an OPT record, and those end here.
		out.Rcode = dns.RcodeServerFailure
	}
	for _, rr := range m.Answer {
		if !belongs(rr, chain, k.qtype) {
			continue
		}
		h := rr.Header()
		if dns.CanonicalName(h.Name) == name {
			h.Name = name // so that it is written as a pointer at the question
		}
		h.Ttl = saneTTL(h.Ttl)
		out.Answer = append(out.Answer, rr)
	}
	out.Ns = siftAuthority(m, chain[len(chain)-1], len(out.Answer) == 0, k)
	return out, nil
}

// follow returns the names that aliases lead to from name, which is the first.
func follow(rrs []dns.RR, name string, qtype uint16) ([]string, error) {
	chain := []string{name}
	if qtype == dns.TypeCNAME || qtype == dns.TypeANY {
		return chain, nil
	}
	targets := map[string]string{}
	for _, rr := range rrs {
		if alias, ok := rr.(*dns.CNAME); ok && alias.Hdr.Class == dns.ClassINET {
			owner := dns.CanonicalName(alias.Hdr.Name)
			if _, twice := targets[owner]; !twice {
				targets[owner] = dns.CanonicalName(alias.Target)
			}
		}
	}
	for {
		next, ok := targets[chain[len(chain)-1]]
		if !ok {
			return chain, nil
		}
		if slices.Contains(chain, next) || len(chain) > maxChain {
			return nil, errChain
		}
		chain = append(chain, next)
	}
}

// belongs reports whether rr is part of the answer for the names of chain.
func belongs(rr dns.RR, chain []string, qtype uint16) bool {
	h := rr.Header()
	if h.Class != dns.ClassINET {
		return false
	}
	covered := h.Rrtype
	if sig, ok := rr.(*dns.RRSIG); ok && qtype != dns.TypeRRSIG {
		covered = sig.TypeCovered
	}
	owner := dns.CanonicalName(h.Name)
	if covered == dns.TypeDNAME && qtype != dns.TypeDNAME {
		return slices.ContainsFunc(chain, func(name string) bool { return name != owner && dns.IsSubDomain(owner, name) })
	}
	if covered != qtype && covered != dns.TypeCNAME && qtype != dns.TypeANY {
		return false
	}
	return slices.Contains(chain, owner)
}

// siftAuthority returns what of the authority section says why there is nothing
// at last, the end of the chain: a SOA record of a zone that it can be in, with
// the proofs if they were asked for; or, if there is no answer at all, whom to ask
// instead, which is of use only to those who do not wish for recursion.
func siftAuthority(m *dns.Msg, last string, empty bool, k key) []dns.RR {
	var out []dns.RR
	haveSOA := false
	for _, rr := range m.Ns {
		h := rr.Header()
		above := h.Class == dns.ClassINET && dns.IsSubDomain(dns.CanonicalName(h.Name), last)
		keep := false
		switch h.Rrtype {
		case dns.TypeSOA:
			keep = above && !haveSOA
			haveSOA = haveSOA || keep
		case dns.TypeNS:
			keep = above && empty && m.Rcode == dns.RcodeSuccess && k.flags&RecursionDesired == 0
		case dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG, dns.TypeDS:
			keep = h.Class == dns.ClassINET && k.flags&DNSSEC != 0
		}
		if keep {
			h.Ttl = saneTTL(h.Ttl)
			out = append(out, rr)
		}
	}
	return out
}

func saneTTL(ttl uint32) uint32 {
	if ttl >= 1<<31 {
		return 0
	}
	return min(ttl, maxTTL)
}

// judge returns what m says and how long it may be kept: as long as the
// shortest-lived of its records, and an answer that there is nothing no longer
// than its SOA record says (RFC 2308), not at all without one.
func judge(m *dns.Msg) (kind, time.Duration) {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return failure, servfailFor
	}
	shortest := uint32(maxPositive / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			shortest = min(shortest, rr.Header().Ttl)
		}
	}
	soa := soaOf(m)
	if soa != nil {
		shortest = min(shortest, soa.Minttl, uint32(maxNegative/time.Second))
	}
	life := time.Duration(shortest) * time.Second
	if m.Rcode == dns.RcodeNameError || len(m.Answer) == 0 {
		if soa == nil {
			life = 0
		}
		return denial, life
	}
	return positive, life
}

// soaOf returns the record that marks m as saying that there is nothing, at the
// name itself or at the end of a chain of aliases.
func soaOf(m *dns.Msg) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}
