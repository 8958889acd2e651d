package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		bad            bool
	}{
		{"good", `{"Action":"output","Package":"p","Test":"A","Output":"noise\n"}{"Action":"pass","Package":"p","Test":"A"}{"Action":"pass","Package":"p","Elapsed":1.5}`,
			"pass  p (1.5s)\n1 passed, 0 failed, 0 skipped\n", false},
		{"failed, with its output", `{"Action":"output","Package":"p","Test":"A","Output":"why\n"}{"Action":"fail","Package":"p","Test":"A"}{"Action":"pass","Package":"p","Test":"B"}`,
			"why\nFAILED  p A\n1 passed, 1 failed, 0 skipped\n", true},
		{"a skipped test is bad", `{"Action":"skip","Package":"p","Test":"A"}{"Action":"pass","Package":"p","Test":"B"}`,
			"SKIPPED p A\nskipped tests count as failed: install what they miss, or remove them\n1 passed, 0 failed, 1 skipped\n", true},
		{"a package without tests is not", `{"Action":"skip","Package":"q"}{"Action":"pass","Package":"p","Test":"B"}`,
			"1 passed, 0 failed, 0 skipped\n", false},
		{"does not build", `{"Action":"build-output","ImportPath":"p","Output":"x.go:1: no\n"}`,
			"x.go:1: no\nno test ran\n0 passed, 0 failed, 0 skipped\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r report
			var out strings.Builder
			if err := r.read(strings.NewReader(tt.in), &out); err != nil {
				t.Fatal(err)
			}
			if bad := r.summary(&out); bad != tt.bad {
				t.Errorf("bad = %t, want %t", bad, tt.bad)
			}
			if out.String() != tt.want {
				t.Errorf("printed\n%s\nwant\n%s", out.String(), tt.want)
			}
		})
	}
}
