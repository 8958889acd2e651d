package search

import (
	"fmt"
	"slices"
	"strings"
)

// What resolvers do, as their sources say: glibc 2.41 resolv/res_query.c and
// res_send.c, musl 1.2.5 src/network/lookup_name.c, Go 1.26 net/dnsclient_unix.go.

const (
	noError  = 0
	servFail = 2
	nxDomain = 3
)

// response is what a resolver sees of an answer.
type response struct {
	rcode int
	// records are in the answer section, addresses those of them that count.
	records   int
	addresses []string
}

// server answers one question.
type server func(name string, t Type) response

// outcome is what a program gets from its resolver.
type outcome struct {
	addresses string
	err       string
}

func (o outcome) String() string { return fmt.Sprintf("[%s] %s", o.addresses, o.err) }

func found(responses []response) outcome {
	var all []string
	for _, r := range responses {
		all = append(all, r.addresses...)
	}
	slices.Sort(all)
	return outcome{addresses: strings.Join(all, " ")}
}

type resolver func(ask server, r Resolver, name string, types []Type) outcome

func askAll(ask server, name string, types []Type) (out []response) {
	for _, t := range types {
		out = append(out, ask(name, t))
	}
	return out
}

// glibc is __res_context_search, with both types in one query as getaddrinfo does.
func glibc(ask server, r Resolver, name string, types []Type) outcome {
	bare, absolute := strings.CutSuffix(name, ".")
	dots := strings.Count(bare, ".")
	query := func(name string) (outcome, bool) {
		responses := askAll(ask, name, types)
		for _, r := range responses {
			if r.rcode == noError && r.records > 0 {
				o := found(responses)
				if o.addresses == "" {
					o.err = "NO_DATA"
				}
				return o, true
			}
		}
		code := responses[0].rcode
		if code == noError {
			code = responses[len(responses)-1].rcode
		}
		return outcome{err: map[int]string{noError: "NO_DATA", servFail: "TRY_AGAIN", nxDomain: "HOST_NOT_FOUND"}[code]}, false
	}
	var saved, last outcome
	triedAsIs, gotNoData, gotServFail := false, false, false
	if dots >= r.Ndots || absolute {
		o, ok := query(bare)
		if ok || absolute {
			return o
		}
		saved, triedAsIs = o, true
	}
	for _, d := range r.Domains {
		o, ok := query(bare + "." + d)
		if ok {
			return o
		}
		last = o
		gotNoData = gotNoData || o.err == "NO_DATA"
		gotServFail = gotServFail || o.err == "TRY_AGAIN"
	}
	if !triedAsIs {
		o, ok := query(bare)
		if ok {
			return o
		}
		last = o
	}
	switch {
	case triedAsIs:
		return saved
	case gotNoData:
		return outcome{err: "NO_DATA"}
	case gotServFail:
		return outcome{err: "TRY_AGAIN"}
	}
	return last
}

// musl is name_from_dns_search.
func musl(ask server, r Resolver, name string, types []Type) outcome {
	bare, absolute := strings.CutSuffix(name, ".")
	query := func(name string) (outcome, bool) {
		responses := askAll(ask, name, types)
		for _, r := range responses {
			switch r.rcode {
			case noError:
			case servFail:
				return outcome{err: "EAI_AGAIN"}, true
			case nxDomain:
				return outcome{}, false
			default:
				return outcome{err: "EAI_FAIL"}, true
			}
		}
		o := found(responses)
		if o.addresses == "" {
			o.err = "EAI_NODATA"
		}
		return o, true
	}
	if !absolute && strings.Count(bare, ".") < r.Ndots {
		for _, d := range r.Domains {
			if o, done := query(bare + "." + d); done {
				return o
			}
		}
	}
	if o, done := query(bare); done {
		return o
	}
	return outcome{err: "EAI_NONAME"}
}

// golang is goLookupIPCNAMEOrder. Which of several errors it returns is left out:
// it is the last one, but for that of the bare name.
func golang(ask server, r Resolver, name string, types []Type) outcome {
	bare, absolute := strings.CutSuffix(name, ".")
	var names []string
	for _, d := range r.Domains {
		names = append(names, bare+"."+d)
	}
	switch {
	case absolute:
		names = []string{bare}
	case strings.Count(bare, ".") >= r.Ndots:
		names = append([]string{bare}, names...)
	default:
		names = append(names, bare)
	}
	for _, n := range names {
		responses := askAll(ask, n, types)
		for i := range responses {
			if responses[i].rcode != noError {
				responses[i].addresses = nil
			}
		}
		if o := found(responses); o.addresses != "" {
			return o
		}
	}
	return outcome{err: "not found"}
}
