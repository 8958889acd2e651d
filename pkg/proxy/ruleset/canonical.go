package ruleset

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Canonical returns a form of rule that is the same for all ways of writing it
// that iptables-save and render use: as a program lists a rule, it is seldom
// written as it was given. Two rules of different meaning never have the same
// form; two of the same meaning may have different ones, where the difference is
// none that a save program makes.
//
// What it evens out: the order of the basic matches, of the options of one match
// and of lists of states; matches that are implied by the protocol; prefix
// lengths; the rounding of probabilities; values that are the default.
func Canonical(rule Rule) string {
	words, err := Fields(string(rule))
	if err != nil {
		return string(rule)
	}
	basic, rest := parts(words)
	slices.Sort(basic.options)
	out := slices.Clone(basic.options)
	for _, p := range rest {
		slices.Sort(p.options)
		if p.head != "" {
			out = append(out, p.head)
		}
		out = append(out, p.options...)
	}
	return strings.Join(out, "\x00")
}

// part is a match or the target, with its options: each with its values and its
// negation as one text.
type part struct {
	head    string
	options []string
}

// parts takes a rule apart: what every rule can have, and then the matches and
// the target in their order.
func parts(words []string) (basic part, rest []part) {
	protocol := part{}
	not := ""
	for i := 0; i < len(words); {
		if words[i] == "!" {
			not, i = "! ", i+1
			continue
		}
		option := words[i]
		i++
		from := i
		for i < len(words) && !strings.HasPrefix(words[i], "-") && words[i] != "!" {
			i++
		}
		values := words[from:i]
		text := not + option + " " + strings.Join(value(option, values), " ")
		not = ""
		switch {
		case (option == "-m" || option == "--match") && slices.Equal(values, protocol.options):
			// What follows are options of the protocol, with or without this word.
		case option == "-m" || option == "-j" || option == "-g":
			rest = append(rest, part{head: text})
		case isBasic(option):
			basic.options = append(basic.options, text)
			if option == "-p" {
				protocol.options = values
			}
		case isDefault(option, values):
		case len(rest) == 0:
			basic.options = append(basic.options, text)
		default:
			last := &rest[len(rest)-1]
			last.options = append(last.options, text)
		}
	}
	return basic, rest
}

func isBasic(option string) bool {
	return slices.Contains([]string{"-s", "-d", "-i", "-o", "-p"}, option)
}

// isDefault reports whether the program writes the option though it was not
// given, or the other way round.
func isDefault(option string, values []string) bool {
	v := strings.Join(values, " ")
	switch option {
	case "--reject-with":
		return v == "icmp-port-unreachable" || v == "icmp6-port-unreachable"
	case "--mask":
		return v == "255.255.255.255" || v == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	case "--rsource":
		return true
	}
	return false
}

// probabilities are kept as multiples of its inverse.
const probabilities = 1 << 31

func value(option string, values []string) []string {
	if len(values) != 1 {
		return values
	}
	v := values[0]
	switch option {
	case "-s", "-d":
		if a, err := netip.ParseAddr(v); err == nil {
			v = netip.PrefixFrom(a, a.BitLen()).String()
		} else if p, err := netip.ParsePrefix(v); err == nil {
			v = p.Masked().String()
		}
	case "--probability":
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			v = strconv.FormatInt(int64(math.Round(f*probabilities)), 10)
		}
	case "--ctstate", "--state":
		states := strings.Split(v, ",")
		slices.Sort(states)
		v = strings.Join(states, ",")
	}
	return []string{v}
}

// Same reports whether the rules of two chains are the same, however they are written.
func (c *Chain) Same(other *Chain) bool {
	return slices.EqualFunc(c.Rules, other.Rules, func(x, y Rule) bool { return x == y || Canonical(x) == Canonical(y) })
}
