package ruleset

import (
	"testing"
)

// TestCanonical has pairs of what is written and what iptables-save makes of it.
func TestCanonical(t *testing.T) {
	for _, same := range [][2]Rule{
		{"-p tcp -d 10.96.0.1 -m tcp --dport 80 -j X", "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j X"},
		{"-p udp --dport 53 -g X", "-p udp -m udp --dport 53 -g X"},
		{"-p tcp -m tcp --dport 80 --sport 1 -j X", "-p tcp -m tcp --sport 1 --dport 80 -j X"},
		{"-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"},
		{"-j REJECT", "-j REJECT --reject-with icmp6-port-unreachable"},
		{`-m comment --comment "one" -j X`, "-m comment --comment one -j X"},
		{"-m statistic --mode random --probability 0.3333333333 -j X", "-m statistic --mode random --probability 0.33333333349 -j X"},
		{"-m conntrack --ctstate ESTABLISHED,RELATED -j X", "-m conntrack --ctstate RELATED,ESTABLISHED -j X"},
		{"! -s fd00::1 -j X", "! -s fd00::1/128 -j X"},
		{"-s fd00:0:0::/64 -j X", "-s fd00::/64 -j X"},
		{"-m recent --name A --set -j X", "-m recent --set --name A --mask 255.255.255.255 --rsource -j X"},
	} {
		if a, b := Canonical(same[0]), Canonical(same[1]); a != b {
			t.Errorf("%s and %s are the same rule:\n%q\n%q", same[0], same[1], a, b)
		}
	}
	for _, other := range [][2]Rule{
		{"-s 10.0.0.0/8 -j X", "-d 10.0.0.0/8 -j X"},
		{"-s 10.0.0.0/8 -j X", "! -s 10.0.0.0/8 -j X"},
		{"-p tcp -j X", "-p udp -j X"},
		{"-p tcp -j X", "-j X"},
		{"-j X", "-g X"},
		{"-m comment --comment 'a b' -j X", "-m comment --comment a -j X"},
		{"-m statistic --mode random --probability 0.5 -j X", "-m statistic --mode random --probability 0.25 -j X"},
		{"-j REJECT", "-j REJECT --reject-with tcp-reset"},
		{"-p tcp -m tcp --dport 80 -j X", "-p tcp -m tcp --sport 80 -j X"},
		{"-p tcp -m tcp ! --dport 80 -j X", "-p tcp -m tcp --dport 80 -j X"},
		{"-m addrtype --dst-type LOCAL -j X", "-m addrtype ! --dst-type LOCAL -j X"},
		{"-m mark --mark 0x1/0x1 -m socket -j X", "-m mark --mark 0x1/0x1 -j X"},
	} {
		if a := Canonical(other[0]); a == Canonical(other[1]) {
			t.Errorf("%s and %s are different rules: %q", other[0], other[1], a)
		}
	}
}

// FuzzCanonical holds that the form of a form is itself, so that it is one, and
// that no rule makes it fail.
func FuzzCanonical(f *testing.F) {
	f.Add(`-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -m comment --comment "a b" -j X`)
	f.Add(`! -s ::/0 -m statistic --probability 1e99 -j`)
	f.Fuzz(func(t *testing.T, rule string) {
		if a, b := Canonical(Rule(rule)), Canonical(Rule(rule)); a != b {
			t.Errorf("%q and %q", a, b)
		}
		if w, err := Fields(rule); err == nil && len(w) == 0 && Canonical(Rule(rule)) != "" {
			t.Errorf("something of nothing: %q", Canonical(Rule(rule)))
		}
	})
}

func TestSame(t *testing.T) {
	chain := func(rules ...Rule) *Chain { return &Chain{Rules: rules} }
	for _, tt := range []struct {
		a, b *Chain
		want bool
	}{
		{chain("-s 10.0.0.1 -j B"), chain("-s 10.0.0.1/32 -j B"), true},
		{chain("-j RETURN"), chain("-j DROP"), false},
		{chain("-j A", "-j B"), chain("-j B", "-j A"), false},
		{chain("-j A"), chain("-j A", "-j A"), false},
		{chain(), chain(), true},
	} {
		if got := tt.a.Same(tt.b); got != tt.want {
			t.Errorf("%v and %v: %v", tt.a.Rules, tt.b.Rules, got)
		}
	}
}
