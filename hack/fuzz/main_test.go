package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseList(t *testing.T) {
	const listed = `?   	example.org/m/cmd	[no test files]
FuzzA
FuzzB
ok  	example.org/m/pkg/dns/records	0.012s
ok  	example.org/m/pkg/model	0.010s
FuzzC
ok  	example.org/m/hack/x	0.010s
`
	var got []string
	for _, f := range parseList(listed) {
		got = append(got, f.name())
	}
	if diff := cmp.Diff([]string{"dns/records.FuzzA", "dns/records.FuzzB", "x.FuzzC"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
