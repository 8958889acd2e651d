package iptablestest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// rule is a rule that can be run.
type rule struct {
	text    string
	matches []match
	// target is a chain or one of targets; empty for a rule that only counts.
	target string
	goTo   bool
	// args are the options of the target.
	args map[string]string
	// sets are the IP sets that the rule uses.
	sets []string
}

// match says whether a packet is meant.
type match func(*packet) bool

// targets are the targets that are no chains, with their options; those that
// end with "!" have no value.
func targets() map[string][]string {
	return map[string][]string{
		"ACCEPT": nil, "DROP": nil, "RETURN": nil, "REJECT": {"--reject-with"},
		"DNAT": {"--to-destination"}, "MASQUERADE": {"--random-fully!"},
		"MARK": {"--set-xmark"}, "CT": {"--notrack!"}, "SET": {"--add-set", "--exist!", "--timeout"},
	}
}

func (r *rule) terminal() bool {
	_, builtin := targets()[r.target]
	return builtin || r.target == ""
}

// parser reads the words of a rule.
type parser struct {
	words  []string
	rule   *rule
	proto  string
	loaded []string // by -m
	recent *recent  // the last one that was loaded
}

// recent is a match of that name.
type recent struct {
	name      string
	operation string // --set, --update or --rcheck
	seconds   bool
}

// without says which options of matches have no value.
func without(option string) bool {
	return slices.Contains([]string{"--set", "--update", "--rcheck", "--reap"}, option)
}

func parseRule(text string) (*rule, error) {
	words, err := ruleset.Fields(text)
	if err != nil {
		return nil, err
	}
	p := &parser{words: words, rule: &rule{text: text, args: map[string]string{}}}
	for len(p.words) > 0 {
		not := p.words[0] == "!"
		if not {
			p.words = p.words[1:]
		}
		if err := p.option(not); err != nil {
			return nil, err
		}
	}
	return p.rule, p.complete()
}

// complete checks what can only be known at the end of a rule.
func (p *parser) complete() error {
	if p.recent != nil && p.recent.operation == "" {
		return fmt.Errorf("recent needs --set, --update or --rcheck")
	}
	if p.rule.target == "DNAT" && p.proto == "" {
		return fmt.Errorf("DNAT to a port needs a protocol")
	}
	for target, option := range map[string]string{"DNAT": "--to-destination", "MARK": "--set-xmark", "CT": "--notrack", "SET": "--add-set"} {
		if _, given := p.rule.args[option]; p.rule.target == target && !given {
			return fmt.Errorf("%s needs %s", target, option)
		}
	}
	return nil
}

func (p *parser) next() (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("something is missing at the end")
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w, nil
}

func (p *parser) option(not bool) error {
	name, err := p.next()
	if err != nil {
		return err
	}
	if p.rule.target != "" {
		return p.targetOption(name)
	}
	value := ""
	if !without(name) {
		if value, err = p.value(name); err != nil {
			return err
		}
	}
	m, err := p.match(name, value)
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, value, err)
	}
	if m == nil {
		return nil
	}
	if not {
		yes := m
		m = func(pk *packet) bool { return !yes(pk) }
	}
	p.rule.matches = append(p.rule.matches, m)
	return nil
}

func (p *parser) value(name string) (string, error) {
	v, err := p.next()
	if err != nil {
		return "", fmt.Errorf("option %q: %w", name, err)
	}
	return v, nil
}

func (p *parser) targetOption(name string) error {
	known := targets()[p.rule.target]
	switch {
	case slices.Contains(known, name):
		v, err := p.value(name)
		p.rule.args[name] = v
		if err == nil && name == "--to-destination" {
			_, err = netip.ParseAddrPort(v)
		}
		if err == nil && name == "--set-xmark" {
			_, _, err = markAndMask(v)
		}
		if err == nil && name == "--timeout" {
			_, err = strconv.ParseUint(v, 10, 31)
		}
		if err == nil && name == "--add-set" {
			err = p.set(v)
		}
		return err
	case slices.Contains(known, name+"!"):
		p.rule.args[name] = ""
		return nil
	}
	return fmt.Errorf("unknown option %q of target %s", name, p.rule.target)
}

// needs says which match an option belongs to.
func needs(option string) string {
	return map[string]string{
		"--comment": "comment", "--mode": "statistic", "--probability": "statistic", "--dst-type": "addrtype",
		"--src-type": "addrtype", "--ctstate": "conntrack", "--mark": "mark", "--match-set": "set",
		"--name": "recent", "--set": "recent", "--update": "recent", "--rcheck": "recent", "--reap": "recent", "--seconds": "recent",
	}[option]
}

// match returns the match of an option; nil for one that matches everything.
func (p *parser) match(name, value string) (match, error) {
	if m := needs(name); m != "" && !slices.Contains(p.loaded, m) {
		return nil, fmt.Errorf("unknown option %q", name)
	}
	switch name {
	case "-j", "-g":
		p.rule.target, p.rule.goTo = value, name == "-g"
		return nil, nil
	case "-m":
		return p.load(value)
	case "-p":
		p.proto = value
		return func(pk *packet) bool { return pk.Proto == value }, nil
	case "-s", "-d":
		return addressMatch(name, value)
	case "--sport", "--dport":
		return p.portMatch(name, value)
	case "--comment":
		if len(value) > 255 {
			return nil, fmt.Errorf("comment must be shorter than 256 characters")
		}
		return nil, nil
	case "--mode":
		if value != "random" {
			return nil, fmt.Errorf("only random is known")
		}
		return nil, nil
	case "--probability":
		odds, err := strconv.ParseFloat(value, 64)
		if err == nil && (odds < 0 || odds > 1) {
			err = fmt.Errorf("not between 0 and 1")
		}
		return func(pk *packet) bool { return pk.choose(odds) }, err
	case "--dst-type", "--src-type":
		return typeMatch(name, value)
	case "--ctstate":
		return stateMatch(value)
	case "--mark":
		mark, mask, err := markAndMask(value)
		return func(pk *packet) bool { return pk.mark&mask == mark }, err
	case "-i":
		return interfaceMatch(value)
	case "--match-set":
		return func(pk *packet) bool { return pk.knows(value) }, p.set(value)
	case "--name", "--set", "--update", "--rcheck", "--reap", "--seconds":
		return nil, p.recent.option(name, value)
	}
	return nil, fmt.Errorf("unknown option %q", name)
}

// set takes the name of a set and the side to look at.
func (p *parser) set(name string) error {
	if side, err := p.next(); err != nil || side != "src" {
		return fmt.Errorf("only src is known")
	}
	p.rule.sets = append(p.rule.sets, name)
	return nil
}

func interfaceMatch(name string) (match, error) {
	if len(strings.TrimSuffix(name, "+")) > 15 {
		return nil, fmt.Errorf("interface name `%s' must be shorter than IFNAMSIZ (15)", name)
	}
	if prefix, ok := strings.CutSuffix(name, "+"); ok {
		return func(pk *packet) bool { return strings.HasPrefix(pk.In, prefix) }, nil
	}
	return func(pk *packet) bool { return pk.In == name }, nil
}

func (r *recent) option(name, value string) error {
	switch name {
	case "--name":
		r.name = value
	case "--seconds":
		r.seconds = true
		_, err := strconv.ParseUint(value, 10, 31)
		return err
	case "--reap":
		if !r.seconds {
			return fmt.Errorf("--reap must be used with --seconds")
		}
	default:
		if r.operation != "" {
			return fmt.Errorf("only one of --set, --update and --rcheck")
		}
		r.operation = name
	}
	return nil
}

// match looks the source up, or notes it. A list is there when a rule has its name.
func (r *recent) match(pk *packet) bool {
	if r.operation == "--set" {
		pk.learn("recent " + r.name)
		return true
	}
	return pk.knows("recent " + r.name)
}

func (p *parser) load(name string) (match, error) {
	p.loaded = append(p.loaded, name)
	switch name {
	case "comment", "statistic", "addrtype", "conntrack", "mark", "set":
		return nil, nil
	case "recent":
		p.recent = &recent{}
		return p.recent.match, nil
	case "tcp", "udp", "sctp":
		if p.proto != name {
			return nil, fmt.Errorf("needs -p %s", name)
		}
		return nil, nil
	case "socket":
		return (*packet).hasSocket, nil
	}
	return nil, fmt.Errorf("couldn't load match `%s'", name)
}

func addressMatch(name, value string) (match, error) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return nil, err
	}
	if name == "-s" {
		return func(pk *packet) bool { return prefix.Contains(pk.Src.Addr()) }, nil
	}
	return func(pk *packet) bool { return prefix.Contains(pk.Dst.Addr()) }, nil
}

func (p *parser) portMatch(name, value string) (match, error) {
	if p.proto == "" || !slices.Contains(p.loaded, p.proto) {
		return nil, fmt.Errorf("needs -p and -m")
	}
	low, high, isRange := strings.Cut(value, ":")
	if !isRange {
		high = low
	}
	from, err1 := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || from > to {
		return nil, fmt.Errorf("invalid port/service")
	}
	return func(pk *packet) bool {
		port := uint64(pk.Dst.Port())
		if name == "--sport" {
			port = uint64(pk.Src.Port())
		}
		return from <= port && port <= to
	}, nil
}

func typeMatch(name, value string) (match, error) {
	if value != "LOCAL" {
		return nil, fmt.Errorf("only LOCAL is known")
	}
	return func(pk *packet) bool {
		if name == "--src-type" {
			return pk.fake.local(pk.Src.Addr())
		}
		return pk.fake.local(pk.Dst.Addr())
	}, nil
}

func stateMatch(value string) (match, error) {
	states := strings.Split(value, ",")
	for _, s := range states {
		if !slices.Contains([]string{"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "DNAT"}, s) {
			return nil, fmt.Errorf("bad ctstate %q", s)
		}
	}
	return func(pk *packet) bool {
		return slices.Contains(states, string(pk.state())) || pk.translated && slices.Contains(states, "DNAT")
	}, nil
}

func markAndMask(value string) (mark, mask uint32, err error) {
	m, k, ok := strings.Cut(value, "/")
	a, err1 := strconv.ParseUint(m, 0, 32)
	b, err2 := strconv.ParseUint(k, 0, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("bad mark %q", value)
	}
	return uint32(a), uint32(b), nil
}
