package packed

import (
	"encoding/binary"
	"slices"
)

const (
	headerLen = 12
	optLen    = 11
	// MaxUDP is how large a datagram is sent at most: one that is not cut into
	// fragments on the way. It is what OPT records say.
	MaxUDP = 1232

	bitQR = 1 << 15
	bitAA = 1 << 10
	bitTC = 1 << 9
	bitRD = 1 << 8
	bitRA = 1 << 7
	bitCD = 1 << 4
	bitDO = 1 << 15

	typeOPT = 41
)

// Kind is what is known of a question.
type Kind uint8

// The kinds. Of Elsewhere and Unpacked there is nothing to Append.
const (
	// Answered: the Reply is the answer.
	Answered Kind = iota
	// Elsewhere: it is not the cluster's to answer.
	Elsewhere
	// Unpacked: the answer takes more than what is kept here.
	Unpacked
)

// Reply is the answer to one question. It is immutable.
type Reply struct {
	kind  Kind
	rcode uint8
	// denial: it ends in what all negative answers of a View end in.
	denial bool
	// spelled: it is for questions in lower case only.
	spelled bool
	// forms are several packed answers that differ in which record is the first.
	// There is one, if list can be turned or nothing is to be turned.
	forms []form
	list  *list
}

// form is all that comes after the question, without an OPT record.
type form struct {
	answers, authority, additional uint16
	body                           []byte
}

// list is an answer section of which any part is in order by itself: the owners of
// all records point at the question, and no other name in them points anywhere.
type list struct {
	records []byte
	ends    []uint32 // of each record in records
	turns   bool
	// complete: there is nothing else in the reply. If not, rest is how many octets
	// there would be.
	complete bool
	rest     int
}

// Kind returns what is known of the question.
func (r *Reply) Kind() Kind { return r.kind }

// Rcode returns the response code.
func (r *Reply) Rcode() int { return int(r.rcode) }

// Asked is what a Reply needs to know of the request.
type Asked struct {
	// Question is the only one, in wire format and as it is spelled.
	Question []byte
	// Lower is true if there are no capitals in it.
	Lower bool
	ID    uint16
	// The bits of the header that are sent back, and those of an OPT record.
	RecursionDesired, CheckingDisabled, EDNS, DNSSEC bool
	// Limit is how long the reply may be, in octets, at least 512.
	Limit int
	// Chance, a random number, decides which record is the first.
	Chance uint32
}

// Append appends the reply of r, which must be from b, to dst and returns it. It
// returns false, and dst as it was, if r has no reply to such a request. It
// allocates nothing if dst has room for a.Limit octets.
func (b *Book) Append(dst []byte, r *Reply, a *Asked) ([]byte, bool) {
	if r.kind != Answered || r.spelled && !a.Lower {
		return dst, false
	}
	room := a.Limit - headerLen - len(a.Question)
	if a.EDNS {
		room -= optLen
	}
	if r.denial {
		dst = a.appendHead(dst, r, form{authority: 1}, false)
		dst = b.denial.append(dst, headerLen+len(a.Question)-4-b.denial.zoneLen)
		return a.AppendOPT(dst), true
	}
	if len(r.forms) > 0 {
		if f := r.forms[int(a.Chance)%len(r.forms)]; len(f.body) <= room {
			dst = append(a.appendHead(dst, r, f, false), f.body...)
			return a.AppendOPT(dst), true
		}
	}
	// What has to be left out first are the additional records (see reply.go of
	// package dns), which the list does not have; but not if they would fit.
	if r.list == nil || !r.list.complete && len(r.list.records)+r.list.rest <= room {
		return dst, false
	}
	n := r.list.fit(int(a.Chance), room)
	dst = a.appendHead(dst, r, form{answers: uint16(n)}, n < len(r.list.ends))
	dst = r.list.append(dst, int(a.Chance), n)
	return a.AppendOPT(dst), true
}

func (a *Asked) appendHead(dst []byte, r *Reply, f form, cut bool) []byte {
	bits := bitQR | bitAA | bitRA | uint16(r.rcode)
	if cut {
		bits |= bitTC
	}
	if a.RecursionDesired {
		bits |= bitRD
	}
	if a.CheckingDisabled {
		bits |= bitCD
	}
	if a.EDNS {
		f.additional++
	}
	dst = binary.BigEndian.AppendUint16(dst, a.ID)
	dst = binary.BigEndian.AppendUint16(dst, bits)
	dst = append(dst, 0, 1)
	dst = binary.BigEndian.AppendUint16(dst, f.answers)
	dst = binary.BigEndian.AppendUint16(dst, f.authority)
	dst = binary.BigEndian.AppendUint16(dst, f.additional)
	return append(dst, a.Question...)
}

// AppendOPT appends the OPT record that belongs into the reply, if any.
func (a *Asked) AppendOPT(dst []byte) []byte {
	if !a.EDNS {
		return dst
	}
	var do byte
	if a.DNSSEC {
		do = bitDO >> 8
	}
	return append(dst, 0, 0, typeOPT, MaxUDP>>8, MaxUDP&0xff, 0, 0, do, 0, 0, 0)
}

// first returns which record chance puts first.
func (l *list) first(chance int) int {
	if !l.turns || len(l.ends) == 0 {
		return 0
	}
	return chance % len(l.ends)
}

// span returns where the records from i on begin, and those from j on.
func (l *list) span(i, j int) (from, to uint32) {
	if i > 0 {
		from = l.ends[i-1]
	}
	if j > 0 {
		to = l.ends[j-1]
	}
	return from, to
}

// fit returns how many records, from the one on that chance puts first, there is
// room for.
func (l *list) fit(chance, room int) int {
	n := len(l.ends)
	if len(l.records) <= room {
		return n
	}
	first := l.first(chance)
	start, _ := l.span(first, 0)
	// How many there are up to the end of the list, and how many from its beginning.
	upTo := func(room int, ends []uint32, base uint32) int {
		i, found := slices.BinarySearch(ends, base+uint32(max(room, 0)))
		if found {
			i++
		}
		return i
	}
	k := upTo(room, l.ends[first:], start)
	if first+k < n {
		return k
	}
	return k + upTo(room-(len(l.records)-int(start)), l.ends[:first], 0)
}

// append appends n records, from the one on that chance puts first.
func (l *list) append(dst []byte, chance, n int) []byte {
	first := l.first(chance)
	head := min(n, len(l.ends)-first)
	from, to := l.span(first, first+head)
	dst = append(dst, l.records[from:to]...)
	_, to = l.span(0, n-head)
	return append(dst, l.records[:to]...)
}
