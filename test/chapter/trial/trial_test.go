package trial

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

func TestParseCurls(t *testing.T) {
	got, err := parseCurls("1000000000 0 0.5 \n2000000000 7 0.001 Failed to connect to 10.96.0.1 port 80\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []lab.Shot{
		{Begin: time.Unix(1, 0), End: time.Unix(1, 5e8)},
		{Begin: time.Unix(2, 0), End: time.Unix(2, 1e6), Err: "curl exit code 7: Failed to connect to 10.96.0.1 port 80"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parseCurls("curl: not found\n"); err == nil {
		t.Error("a line that is none was taken")
	}
}

func TestCount(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	got := Count([]lab.Shot{
		{Begin: at(0), End: at(5), Pod: "a"},
		{Begin: at(10), End: at(11), Err: "read_tcp_10.244.1.2:34->10.96.0.1:80:_read:_refused"},
		{Begin: at(20), End: at(23), Pod: "b"},
		{Begin: at(30), End: at(31), Pod: "a"},
	})
	want := Tally{Total: 4, Failed: []lab.Shot{{Begin: at(10), End: at(11), Err: "read_tcp_10.244.1.2:34->10.96.0.1:80:_read:_refused"}}, Slowest: 5 * time.Millisecond, Gap: 20 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"refused": 1}, got.Reasons()); diff != "" {
		t.Errorf("Reasons (-want +got):\n%s", diff)
	}
}

// TestSee holds which packet counts as the first and as the last one.
func TestSee(t *testing.T) {
	begin := time.Unix(100, 0)
	told := begin.Add(500 * time.Millisecond)
	at := func(ms int) time.Time { return told.Add(time.Duration(ms) * time.Millisecond) }
	shots := []lab.Shot{
		{Begin: begin.Add(-time.Second), Pod: "a"}, // before it was asked to change
		{Begin: at(-10), Pod: "a"},
		{Begin: at(5), Pod: "b"},
		{Begin: at(20), Pod: "a"},
		{Begin: at(30), Err: "read_tcp_10.244.1.2:34->10.96.0.1:80:_read:_refused"},
	}
	for _, tt := range []struct {
		name  string
		flip  Flip
		shots []lab.Shot
		now   time.Time
		want  Flip
		ok    bool
	}{
		{"last", Flip{Pod: "a"}, shots, at(20).Add(settle), Flip{Pod: "a", Packet: 20 * time.Millisecond, After: 1, Failed: 1}, true},
		{"not yet settled", Flip{Pod: "a"}, shots, at(21), Flip{Pod: "a", After: 1, Failed: 1}, false},
		{"none reached it at all", Flip{Pod: "c"}, shots, told.Add(settle), Flip{Pod: "c", Packet: -500 * time.Millisecond, Failed: 1}, true},
		{"first", Flip{Pod: "b", Ready: true}, shots, at(40), Flip{Pod: "b", Ready: true, Packet: 5 * time.Millisecond, After: 1, Failed: 1}, true},
		{"no first yet", Flip{Pod: "c", Ready: true}, shots, at(40), Flip{Pod: "c", Ready: true, Failed: 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.flip.Told, tt.want.Told = told, told
			err := tt.flip.see(append([]lab.Shot{}, tt.shots...), begin, tt.now)
			if (err == nil) != tt.ok {
				t.Errorf("error %v, want none: %v", err, tt.ok)
			}
			if diff := cmp.Diff(tt.want, tt.flip); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	for i := 100; i > 0; i-- {
		values = append(values, time.Duration(i))
	}
	for _, tt := range []struct {
		p    float64
		want time.Duration
	}{{0, 1}, {50, 51}, {99, 100}, {100, 100}} {
		if got := Percentile(values, tt.p); got != tt.want {
			t.Errorf("Percentile(%v) = %d, want %d", tt.p, got, tt.want)
		}
	}
	if got := Percentile(nil, 50); got != 0 {
		t.Errorf("Percentile of none = %v", got)
	}
}
