package packed

import (
	"bytes"
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Book has the answers of one View. It is immutable, but for the table that it
// shares with those before and after it, and may be used from any goroutine.
type Book struct {
	view   *records.View
	table  *table
	denial denial
}

// New returns the Book of a View. It and those that come from it by Next keep as
// many answers as fit into about maxBytes.
func New(view *records.View, maxBytes int) *Book {
	return &Book{view: view, table: newTable(maxBytes), denial: newDenial(view)}
}

// Next returns the Book of a newer Snapshot; see records.View.Next.
func (b *Book) Next(s *model.Snapshot, serial uint32) *Book {
	next := *b
	next.view = b.view.Next(s, serial)
	next.denial = newDenial(next.view)
	b.table.sweep(next.view)
	return &next
}

// View returns the View that the Book is of.
func (b *Book) View() *records.View { return b.view }

// Find returns what is known of a question, or nil. The name is in wire format and
// lower case. Find takes no lock and allocates nothing.
func (b *Book) Find(name []byte, qtype uint16) *Reply {
	e := b.table.find(name, qtype)
	if e == nil || !e.holds(b.view) {
		return nil
	}
	e.use()
	return &e.reply
}

// Pack makes what Find will return from now on, and returns it; or nil, if that
// would not last. The name must be a valid one.
func (b *Book) Pack(name []byte, qtype uint16) *Reply {
	e := &entry{name: string(name), qtype: qtype}
	if !b.make(e) {
		return nil
	}
	e.version.Store(b.view.Version())
	b.table.put(e)
	return &e.reply
}

// Size returns how many answers are kept and how many octets they take, about.
func (b *Book) Size() (entries, octets int) { return b.table.size() }

// denial is the authority section of all negative answers of a View, and where in
// it the name of the zone is pointed at.
type denial struct {
	body     []byte
	pointers []int
	zoneLen  int
}

func newDenial(v *records.View) denial {
	zone := v.Zone()
	d := denial{zoneLen: len(zone)}
	text, _, err := dns.UnpackDomainName(zone, 0)
	if err != nil {
		return d // no answer will be like it
	}
	f, err := pack(text, dns.TypeANY, records.Answer{Ns: v.Authority()})
	if err != nil {
		return d
	}
	d.body = f.body
	for i := 0; i+1 < len(d.body); i++ {
		if d.body[i] == 0xc0 && d.body[i+1] == headerLen {
			d.pointers = append(d.pointers, i)
			i++
		}
	}
	return d
}

// append appends the section for a message in which the name of the zone is at off.
func (d *denial) append(dst []byte, off int) []byte {
	start := len(dst)
	dst = append(dst, d.body...)
	for _, i := range d.pointers {
		binary.BigEndian.PutUint16(dst[start+i:], 0xc000|uint16(off))
	}
	return dst
}

// is reports whether f, of a question for name, is what append makes.
func (d *denial) is(f form, name []byte) bool {
	if f.answers != 0 || f.additional != 0 || len(f.body) != len(d.body) {
		return false
	}
	var buf [512]byte
	return bytes.Equal(d.append(buf[:0], headerLen+len(name)-d.zoneLen), f.body)
}
