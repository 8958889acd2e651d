package frame

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
)

var (
	mac   = MAC{0x02, 0, 0, 0, 0, 0x01}
	asker = MAC{0x02, 0, 0, 0, 0, 0x02}
	four  = netip.MustParseAddr("192.0.2.200")
	host  = netip.MustParseAddr("192.0.2.7")
	six   = netip.MustParseAddr("2001:db8::c8:1")
)

// TestARP holds the bytes against the RFC's layout, written out by hand.
func TestARP(t *testing.T) {
	question := ARP{Operation: Request, Sender: asker, SenderIP: host, TargetIP: four}
	tests := []struct {
		name string
		p    ARP
		want string
		asks bool
	}{
		{"a question", question, "0001080006040001" + "020000000002c0000207" + "000000000000c00002c8", true},
		{"the answer", AnswerARP(question, mac), "0001080006040002" + "020000000001c00002c8" + "020000000002c0000207", false},
		{"announced", AnnounceARP(four, mac), "0001080006040001" + "020000000001c00002c8" + "000000000000c00002c8", false},
		{"a probe", ProbeARP(four, mac), "0001080006040001" + "02000000000100000000" + "000000000000c00002c8", true},
	}
	for _, tt := range tests {
		b := tt.p.Bytes()
		if got := hex.EncodeToString(b); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		filled := append(b, make([]byte, 18)...)
		if again, err := ParseARP(filled); err != nil || again != tt.p || again.Asks() != tt.asks {
			t.Errorf("%s: read as %+v, %v", tt.name, again, err)
		}
	}
}

func TestWhatIsNoARP(t *testing.T) {
	for _, text := range []string{
		"", "0001080006040001" + "020000000002c0000207" + "000000000000c00002",
		"0006080006040001" + "020000000002c0000207" + "000000000000c00002c8",
		"0001080006040008" + "020000000002c0000207" + "000000000000c00002c8",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := ParseARP(b); err == nil {
			t.Errorf("%s is read as %+v", text, p)
		}
	}
}

func TestNDP(t *testing.T) {
	const target = "20010db80000000000000000" + "00c80001"
	solicitation, probe := Solicitation{six, asker}, Solicitation{Target: six}
	answer, announced := Advertisement{six, mac, true, true}, Advertisement{six, mac, false, true}
	for want, b := range map[string][]byte{
		"87000000" + "00000000" + target + "0101020000000002": solicitation.Bytes(),
		"87000000" + "00000000" + target:                      probe.Bytes(),
		"88000000" + "60000000" + target + "0201020000000001": answer.Bytes(),
		"88000000" + "20000000" + target + "0201020000000001": announced.Bytes(),
	} {
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if s, a, err := ParseNDP(solicitation.Bytes()); err != nil || a != nil || *s != solicitation {
		t.Errorf("%+v, %+v, %v", s, a, err)
	}
	if s, a, err := ParseNDP(answer.Bytes()); err != nil || s != nil || *a != answer {
		t.Errorf("%+v, %+v, %v", s, a, err)
	}
	if got := SolicitedNode(six).String(); got != "ff02::1:ffc8:1" {
		t.Errorf("the group of %v is %s", six, got)
	}
}

func TestWhatIsNoNDP(t *testing.T) {
	good := hex.EncodeToString(Solicitation{six, asker}.Bytes())
	for _, text := range []string{
		"", good[:46], "85" + good[2:], "8701" + good[4:], good[:len(good)-2], good + "0100", good + "01",
		"8700000000000000" + "ff020000000000000000000000000001",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if s, a, err := ParseNDP(b); err == nil {
			t.Errorf("%s is read as %+v, %+v", text, s, a)
		}
	}
}

// TestPacket holds the bytes against the RFC's layout, written out by hand.
func TestPacket(t *testing.T) {
	const want = "6000000000203aff" + "fe800000000000000000000000000001" + "ff0200000000000000000001ffc80001" +
		"8700" + "%s" + "00000000" + "20010db8000000000000000000c80001" + "0101020000000002"
	source := netip.MustParseAddr("fe80::1")
	b := Packet(source, SolicitedNode(six), Solicitation{six, asker}.Bytes())
	if got := hex.EncodeToString(b); got != fmt.Sprintf(want, hex.EncodeToString(b[42:44])) {
		t.Errorf("%s", got)
	}
	// The sum over everything that the checksum is of, with the checksum, is all ones.
	sum := uint32(len(b)-40) + 58
	for i := 8; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum != 0xffff {
		t.Errorf("the checksum does not sum up: %x", sum)
	}
	from, message, err := ParsePacket(append(b, 0, 0))
	if err != nil || from != source {
		t.Fatal(from, err)
	}
	if s, _, err := ParseNDP(message); err != nil || *s != (Solicitation{six, asker}) {
		t.Errorf("%+v, %v", s, err)
	}
	if got := GroupMAC(SolicitedNode(six)).String(); got != "33:33:ff:c8:00:01" {
		t.Errorf("the group is at %s", got)
	}
	for what, at := range map[string]int{"routed": 7, "of another protocol": 6, "too short": 5, "of IPv4": 0} {
		bad := bytes.Clone(b)
		bad[at] ^= 0x41
		if _, _, err := ParsePacket(bad); err == nil {
			t.Errorf("a packet that is %s is read", what)
		}
	}
}

// FuzzParse: nothing that comes from a link makes it panic, and what is read says
// the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add(AnnounceARP(four, mac).Bytes())
	f.Add(Packet(six, SolicitedNode(six), Solicitation{six, asker}.Bytes()))
	f.Add(Solicitation{six, asker}.Bytes())
	f.Add(Advertisement{six, mac, true, true}.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, message, err := ParsePacket(b); err == nil && len(message) > len(b) {
			t.Errorf("%x has a message of %d bytes", b, len(message))
		}
		if p, err := ParseARP(b); err == nil {
			if again, err := ParseARP(p.Bytes()); err != nil || again != p {
				t.Errorf("%x: %+v and %+v", b, p, again)
			}
		}
		switch s, a, err := ParseNDP(b); {
		case err != nil:
		case s != nil:
			if again, _, err := ParseNDP(s.Bytes()); err != nil || *again != *s {
				t.Errorf("%x: %+v", b, s)
			}
		default:
			if _, again, err := ParseNDP(a.Bytes()); err != nil || *again != *a {
				t.Errorf("%x: %+v", b, a)
			}
		}
	})
}
