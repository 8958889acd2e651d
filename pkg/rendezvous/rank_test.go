package rendezvous

import (
	"fmt"
	"slices"
	"testing"
)

func nodes(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint("node-", i))
	}
	return out
}

// TestOrderOfTheOthersStays: whoever goes, those who were before and after stay so.
func TestOrderOfTheOthersStays(t *testing.T) {
	all := nodes(7)
	for k := range 100 {
		key := fmt.Sprint("ns/svc-", k)
		full := Rank(key, all)
		for _, gone := range all {
			is := func(n string) bool { return n == gone }
			got := Rank(key, slices.DeleteFunc(slices.Clone(all), is))
			if want := slices.DeleteFunc(slices.Clone(full), is); !slices.Equal(got, want) {
				t.Fatalf("%s without %s: %v, want %v", key, gone, got, want)
			}
		}
	}
}

func TestOrderOfTheArgumentsDoesNotMatter(t *testing.T) {
	forth, back := nodes(5), nodes(5)
	slices.Reverse(back)
	if a, b := Rank("k", forth), Rank("k", back); !slices.Equal(a, b) {
		t.Errorf("%v and %v", a, b)
	}
}

// TestSpread: of 10,000 keys each of five nodes is among the first three of about
// 6,000, and the first of about 2,000.
func TestSpread(t *testing.T) {
	first, among := map[string]int{}, map[string]int{}
	for k := range 10000 {
		ranked := Rank(fmt.Sprint("default/svc-", k), nodes(5))
		first[ranked[0]]++
		for _, n := range ranked[:3] {
			among[n]++
		}
	}
	for _, n := range nodes(5) {
		if f, a := first[n], among[n]; f < 1800 || f > 2200 || a < 5700 || a > 6300 {
			t.Errorf("%s is the first of %d and among three of %d", n, f, a)
		}
	}
}
