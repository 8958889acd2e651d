package peers

import (
	"bytes"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameMessage = cmp.Options{cmp.AllowUnexported(message{}), cmpopts.EquateComparable(netip.Addr{})}

func TestMessagesSurviveTheWire(t *testing.T) {
	for _, m := range []message{
		{kind: kindProbe, nonce: 1},
		{kind: kindAnswer, nonce: math.MaxUint64, watermark: math.MaxUint64},
		{kind: kindAsk, nonce: 2, subject: netip.MustParseAddr("192.0.2.7")},
		{kind: kindAsk, nonce: 2, subject: netip.MustParseAddr("2001:db8::7")},
		{kind: kindOpinion, nonce: 3},
		{kind: kindOpinion, nonce: 3, opinion: Opinion{State: Alive}},
		{kind: kindOpinion, nonce: 3, opinion: Opinion{State: Silent, Silence: 3217 * time.Millisecond}},
		{kind: kindInquiry, nonce: 4, backend: [16]byte{1, 2, 3, 15: 255}},
		{kind: kindFinding, nonce: 5},
		{kind: kindFinding, nonce: 5, finding: Finding{State: 2, Cause: 5, Detail: 503}},
	} {
		b := m.encode()
		got, err := decode(b[:])
		if err != nil {
			t.Errorf("%v: %v", m, err)
		}
		if diff := cmp.Diff(m, got, sameMessage); diff != "" {
			t.Errorf("%v (-want +got):\n%s", m.kind, diff)
		}
	}
}

func TestLongSilenceIsCut(t *testing.T) {
	b := message{kind: kindOpinion, opinion: Opinion{State: Silent, Silence: math.MaxInt64}}.encode()
	got, err := decode(b[:])
	if want := math.MaxUint32 * time.Millisecond; err != nil || got.opinion.Silence != want {
		t.Errorf("%v, %v; want %v", got.opinion.Silence, err, want)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	good := message{kind: kindOpinion, nonce: 5, opinion: Opinion{State: Alive}}.encode()
	for name, change := range map[string]func([]byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"short":         func(b []byte) []byte { return b[:messageSize-1] },
		"long":          func(b []byte) []byte { return append(b, 0) },
		"other program": func(b []byte) []byte { b[0] = 'X'; return b },
		"other version": func(b []byte) []byte { b[4]++; return b },
		"kind 0":        func(b []byte) []byte { b[5] = 0; return b },
		"later kind":    func(b []byte) []byte { b[5] = 9; return b },
		"later state":   func(b []byte) []byte { b[16] = 9; return b },
		"spare byte":    func(b []byte) []byte { b[31] = 1; return b },
	} {
		if m, err := decode(change(bytes.Clone(good[:]))); err == nil {
			t.Errorf("%s: taken for %+v", name, m)
		}
	}
}

// FuzzDecode holds that there is one text for each message: whatever is accepted
// is what encode makes of it.
func FuzzDecode(f *testing.F) {
	for _, m := range []message{
		{kind: kindProbe, nonce: 1},
		{kind: kindAnswer, nonce: 1, watermark: 77},
		{kind: kindAsk, nonce: 1, subject: netip.MustParseAddr("10.0.0.1")},
		{kind: kindAsk, nonce: 1, subject: netip.MustParseAddr("fd00::1")},
		{kind: kindOpinion, nonce: 1, opinion: Opinion{State: Silent, Silence: time.Second}},
	} {
		b := m.encode()
		f.Add(b[:])
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		if again := m.encode(); !bytes.Equal(again[:], b) {
			t.Errorf("% x is read as %+v, which is % x", b, m, again)
		}
	})
}
