package packed

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
)

// maxForms is how many turns of an answer are kept that can only be turned as a
// whole.
const maxForms = 8

// make fills e with what b's View answers, and returns false if it has nothing that
// may be kept.
func (b *Book) make(e *entry) bool {
	text, _, err := dns.UnpackDomainName([]byte(e.name), 0)
	if err != nil {
		return false
	}
	q := records.Question{Name: text, Type: e.qtype}
	a := b.view.AnswerOn(q, 0, &e.basis)
	e.reply.rcode = uint8(a.Rcode)
	switch {
	case a.Forward:
		e.reply.kind = Elsewhere
		return true
	case a.Rcode != dns.RcodeSuccess && a.Rcode != dns.RcodeNameError:
		return false
	case a.Chase != "":
		e.reply.kind = Unpacked
		return true
	}
	if e.reply.list = newList(a); e.reply.list != nil && e.reply.list.complete {
		return true
	}
	if !b.makeForms(&e.reply, q, a, []byte(e.name)) {
		e.reply = Reply{kind: Unpacked}
	}
	return true
}

// makeForms packs what is not a mere list: one form, or several that begin with
// different records.
func (b *Book) makeForms(r *Reply, q records.Question, a records.Answer, name []byte) bool {
	if r.list == nil && (a.Turns || len(a.Answer) > 2) {
		return false // turns in a way that is not known here
	}
	f, err := pack(q.Name, q.Type, a)
	if err != nil {
		return false // the server logs it each time that it is asked for
	}
	if r.denial = b.denial.is(f, name); r.denial {
		return true
	}
	if len(a.Ns) > 0 {
		return false // its SOA record is written otherwise, and has a serial number that changes
	}
	r.spelled = !b.spellsAlike(q, f)
	if r.list != nil {
		if r.list.rest = len(f.body) - len(r.list.records); len(f.body) > MaxUDP {
			return true // only over TCP would it be sent in whole
		}
	}
	r.forms = []form{f}
	if a.Turns && len(a.Answer) > 1 {
		return b.turnForms(r, q, len(a.Answer))
	}
	return true
}

func (b *Book) turnForms(r *Reply, q records.Question, n int) bool {
	r.forms = nil
	for i := range min(n, maxForms) {
		f, err := pack(q.Name, q.Type, b.view.Answer(q, uint32(i*n/min(n, maxForms))))
		if err != nil {
			return false
		}
		r.forms = append(r.forms, f)
	}
	return true
}

// spellsAlike reports whether the answer to q in capitals has the body of f, too.
// Then it has so in any mixture.
func (b *Book) spellsAlike(q records.Question, f form) bool {
	q.Name = strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' {
			return c - 'a' + 'A'
		}
		return c
	}, q.Name)
	capitals, err := pack(q.Name, q.Type, b.view.Answer(q, 0))
	return err == nil && slices.Equal(capitals.body, f.body)
}

// pack returns what comes after the question in the answer to it.
func pack(name string, qtype uint16, a records.Answer) (form, error) {
	m := dns.Msg{
		Compress: true,
		Question: []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}},
		Answer:   a.Answer, Ns: a.Ns, Extra: a.Extra,
	}
	wire, err := m.Pack()
	if err != nil {
		return form{}, err
	}
	off := headerLen
	for wire[off] != 0 {
		off += int(wire[off]) + 1
	}
	return form{uint16(len(a.Answer)), uint16(len(a.Ns)), uint16(len(a.Extra)), slices.Clone(wire[off+5:])}, nil
}

// newList returns the answer section of a as a list, or nil if it is none.
func newList(a records.Answer) *list {
	if len(a.Answer) == 0 || len(a.Ns) != 0 {
		return nil
	}
	l := &list{turns: a.Turns && len(a.Answer) > 1, complete: len(a.Extra) == 0, ends: make([]uint32, 0, len(a.Answer))}
	owner := a.Answer[0].Header().Name
	for _, rr := range a.Answer {
		h := rr.Header()
		if h.Name != owner {
			return nil
		}
		l.records = append(l.records, 0xc0, headerLen)
		l.records = binary.BigEndian.AppendUint16(l.records, h.Rrtype)
		l.records = binary.BigEndian.AppendUint16(l.records, h.Class)
		l.records = binary.BigEndian.AppendUint32(l.records, h.Ttl)
		data, ok := appendData(l.records, rr)
		if !ok {
			return nil
		}
		l.records = data
		l.ends = append(l.ends, uint32(len(l.records)))
	}
	l.records = slices.Clip(l.records)
	return l
}

// appendData appends length and contents of the record, if it is of a type that
// names are not shortened in.
func appendData(dst []byte, rr dns.RR) ([]byte, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a := rr.A.To4()
		return append(append(dst, 0, 4), a...), len(a) == 4
	case *dns.AAAA:
		return append(append(dst, 0, 16), rr.AAAA...), len(rr.AAAA) == 16
	case *dns.SRV:
		var target [256]byte
		n, err := dns.PackDomainName(rr.Target, target[:], 0, nil, false)
		if err != nil {
			return dst, false
		}
		for _, word := range []uint16{uint16(6 + n), rr.Priority, rr.Weight, rr.Port} {
			dst = binary.BigEndian.AppendUint16(dst, word)
		}
		return append(dst, target[:n]...), true
	}
	return dst, false
}
