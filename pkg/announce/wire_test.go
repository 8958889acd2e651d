package announce

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/announce/claim"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

var byAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func someAddresses(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		if i%2 == 0 {
			out = append(out, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
		} else {
			out = append(out, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)}))
		}
	}
	return out
}

// gathered puts datagrams together again, in an order of their own.
func gathered(t *testing.T, in [][]byte) (header, []byte) {
	t.Helper()
	rand.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
	var g gathering
	for i, b := range in {
		if len(b) > 1400 {
			t.Errorf("a datagram of %d bytes", len(b))
		}
		h, part, err := readHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		text, done := g.add(h, part)
		if !done {
			_, done = g.add(h, part) // as when it comes twice
		}
		if done != (i == len(in)-1) && len(in) > 1 {
			t.Fatalf("complete after %d of %d: %v", i+1, len(in), done)
		}
		if done {
			return h, text
		}
	}
	return header{}, nil
}

func TestMessageSurvivesTheWire(t *testing.T) {
	for _, n := range []int{0, 1, 7, 1000, 5000} {
		m := claim.Message{From: "node-1", Epoch: 1 << 60, Number: 77, Leaving: n == 0}
		for i, a := range someAddresses(n) {
			m.Claims = append(m.Claims, claim.Claim{Address: a, Held: i%3 == 0})
		}
		macs := []frame.MAC{{2, 1}, {2, 2}}
		sent, err := encodeMessage(m, macs)
		if err != nil {
			t.Fatal(err)
		}
		h, text := gathered(t, sent)
		got, gotMACs, err := decodeMessage(h, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got, byAddress); diff != "" {
			t.Errorf("%d addresses in %d datagrams:\n%s", n, len(sent), diff)
		}
		if diff := cmp.Diff(macs, gotMACs); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReplySurvivesTheWire(t *testing.T) {
	for _, n := range []int{0, 1, 3000} {
		r := claim.Reply{From: "b", Epoch: 3, Number: 9}
		for i, a := range someAddresses(n) {
			r.Denied = append(r.Denied, claim.Denial{Address: a, Holder: []string{"", "a", "c"}[i/7%3]})
		}
		sent, err := encodeReply(r)
		if err != nil {
			t.Fatal(err)
		}
		h, text := gathered(t, sent)
		got, err := decodeReply(h, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got, byAddress); diff != "" {
			t.Errorf("%d denials in %d datagrams:\n%s", n, len(sent), diff)
		}
	}
}

// TestTooMany: what does not fit is an error, and not half a message.
func TestTooMany(t *testing.T) {
	m := claim.Message{From: "a"}
	for i := range 20000 {
		m.Claims = append(m.Claims, claim.Claim{Address: netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)})})
	}
	if sent, err := encodeMessage(m, nil); err == nil {
		t.Errorf("%d datagrams", len(sent))
	}
}

// TestPartsOfSeveral: parts of an older text do not get into a newer one.
func TestPartsOfSeveral(t *testing.T) {
	text := make([]byte, 2*partSize+5)
	var g gathering
	for number := range uint64(5) {
		for i := range text {
			text[i] = byte(number)
		}
		sent, err := datagrams(header{kind: kindMessage, number: number}, text)
		if err != nil {
			t.Fatal(err)
		}
		if number < 4 {
			sent = sent[:2]
		}
		for i, b := range sent {
			h, part, err := readHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			switch got, done := g.add(h, part); {
			case done != (i == 2):
				t.Fatalf("text %d is complete with part %d: %v", number, i, done)
			case done && !bytes.Equal(got, text):
				t.Error("it is another text")
			}
		}
	}
}

// FuzzDecode: nothing that comes makes it panic, and what is read says the same
// when it is written again.
func FuzzDecode(f *testing.F) {
	m, _ := encodeMessage(claim.Message{From: "a", Claims: []claim.Claim{{Address: netip.MustParseAddr("192.0.2.1"), Held: true}}}, []frame.MAC{{2}})
	r, _ := encodeReply(claim.Reply{From: "a", Denied: []claim.Denial{{Address: netip.MustParseAddr("2001:db8::1"), Holder: "b"}}})
	f.Add(m[0])
	f.Add(r[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, text, err := readHeader(b)
		if err != nil {
			return
		}
		if m, macs, err := decodeMessage(h, text); err == nil {
			sent, err := encodeMessage(m, macs)
			if err != nil {
				t.Fatal(err)
			}
			_, text := gathered(t, sent)
			if again, _, err := decodeMessage(h, text); err != nil || !cmp.Equal(m, again, byAddress) {
				t.Errorf("%x: %+v and %+v, %v", b, m, again, err)
			}
		}
		if r, err := decodeReply(h, text); err == nil {
			sent, err := encodeReply(r)
			if err != nil {
				t.Fatal(err)
			}
			_, text := gathered(t, sent)
			if again, err := decodeReply(h, text); err != nil || !cmp.Equal(r, again, byAddress) {
				t.Errorf("%x: %+v and %+v, %v", b, r, again, err)
			}
		}
	})
}
