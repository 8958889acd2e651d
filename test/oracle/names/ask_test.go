//go:build integration

package names

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/test/netlab"
)

// edns is the size of datagrams that a client offers to take, if it says anything.
const edns = 1232

// question is all that a client can choose.
type question struct {
	name                               string
	qtype, class                       uint16
	tcp, edns, do, cd, ad, noRecursion bool
	size                               uint16
	version                            uint8
	opcode                             int
}

// parseQuestion reads "NAME TYPE [OPTION…]", as String writes it.
func parseQuestion(text string) (question, error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return question{}, fmt.Errorf("%q: want NAME TYPE [OPTION…]", text)
	}
	q := question{name: words[0], class: dns.ClassINET, size: edns}
	var ok bool
	if q.qtype, ok = dns.StringToType[words[1]]; !ok {
		return q, fmt.Errorf("%q: there is no type %s", text, words[1])
	}
	for _, w := range words[2:] {
		if err := q.option(w); err != nil {
			return q, fmt.Errorf("%q: %w", text, err)
		}
	}
	return q, nil
}

func (q *question) option(word string) error {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "tcp":
		q.tcp = true
	case "nord":
		q.noRecursion = true
	case "cd":
		q.cd = true
	case "ad":
		q.ad = true
	case "edns":
		q.edns = true
	case "do":
		q.edns, q.do = true, true
	case "size", "version":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return err
		}
		q.edns = true
		if name == "size" {
			q.size = uint16(n)
		} else {
			q.version = uint8(n)
		}
	case "class":
		q.class = dns.StringToClass[value]
	case "opcode":
		q.opcode = dns.StringToOpcode[value]
	default:
		return fmt.Errorf("there is no option %s", name)
	}
	return nil
}

// String writes what parseQuestion reads.
func (q question) String() string {
	text := q.name + " " + dns.Type(q.qtype).String()
	for _, o := range []struct {
		set  bool
		text string
	}{
		{q.tcp, "tcp"}, {q.noRecursion, "nord"}, {q.cd, "cd"}, {q.ad, "ad"},
		{q.do, "do"}, {q.edns && q.size != edns, fmt.Sprint("size=", q.size)}, {q.version != 0, fmt.Sprint("version=", q.version)},
		{q.edns && !q.do && q.size == edns && q.version == 0, "edns"},
		{q.class != dns.ClassINET, "class=" + dns.Class(q.class).String()},
		{q.opcode != dns.OpcodeQuery, "opcode=" + dns.OpcodeToString[q.opcode]},
	} {
		if o.set {
			text += " " + o.text
		}
	}
	return text
}

func (q question) message() *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{
		Id: dns.Id(), Opcode: q.opcode, RecursionDesired: !q.noRecursion, CheckingDisabled: q.cd, AuthenticatedData: q.ad}}
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.class}}
	if q.edns {
		m.SetEdns0(q.size, q.do)
		m.IsEdns0().SetVersion(q.version)
	}
	return m
}

// client asks one server, one question at a time.
type client struct {
	pod      *netlab.Namespace // that the server is in; nil for this process's
	addr     netip.AddrPort
	udp, tcp *dns.Conn
}

const patience = 5 * time.Second

// ask returns the reply to q. A connection that has ended is replaced once: a
// server may end it after so many questions.
func (c *client) ask(q question) (*dns.Msg, error) {
	conn, network := &c.udp, "udp"
	if q.tcp {
		conn, network = &c.tcp, "tcp"
	}
	var last error
	for range 2 {
		if *conn == nil {
			if last = c.dial(network, conn); last != nil {
				return nil, last
			}
		}
		m := q.message()
		var r *dns.Msg
		if r, last = exchange(*conn, m); last == nil {
			return r, sameQuestion(m, r)
		}
		_ = (*conn).Close()
		*conn = nil
	}
	return nil, fmt.Errorf("%s of %s over %s: %w", q, c.addr, network, last)
}

// sameQuestion makes sure that a reply has the request's question, in its case. Who
// did not look at it need not repeat it.
func sameQuestion(m, r *dns.Msg) error {
	wire, err := m.Pack()
	if err != nil {
		return err
	}
	sent := new(dns.Msg)
	if err := sent.Unpack(wire); err != nil {
		return err
	}
	if len(r.Question) == 0 && r.Rcode == dns.RcodeNotImplemented {
		return nil
	}
	if len(r.Question) != 1 || r.Question[0] != sent.Question[0] {
		return fmt.Errorf("the question was %v, that of the reply is %v", sent.Question, r.Question)
	}
	return nil
}

func exchange(conn *dns.Conn, m *dns.Msg) (*dns.Msg, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		r, err := conn.ReadMsg()
		if err != nil || r.Id == m.Id {
			return r, err
		}
	}
}

func (c *client) dial(network string, to **dns.Conn) error {
	dial := func() error {
		conn, err := net.DialTimeout(network, c.addr.String(), patience)
		*to = &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
		if err != nil {
			*to = nil
		}
		return err
	}
	if c.pod == nil {
		return dial()
	}
	return c.pod.Do(dial)
}

// reply is what of a message matters, in a form that two servers' can be compared
// in: records as text, in an order that does not depend on chance.
type reply struct {
	rcode                         string
	flags                         []string
	answer, authority, additional []string
	// opt is the OPT record, empty if there is none.
	opt string
}

func replyOf(m *dns.Msg) reply {
	r := reply{rcode: dns.RcodeToString[m.Rcode], answer: texts(m.Answer), authority: texts(m.Ns)}
	if m.Rcode == dns.RcodeBadVers { // another name of the number is BADSIG
		r.rcode = "BADVERS"
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.set {
			r.flags = append(r.flags, f.name)
		}
	}
	var rest []dns.RR
	for _, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			r.opt = fmt.Sprintf("edns version %d size %d do %v options %d", opt.Version(), opt.UDPSize(), opt.Do(), len(opt.Option))
		} else {
			rest = append(rest, rr)
		}
	}
	r.additional = texts(rest)
	return r
}

// texts writes records as zone files have them, with single blanks. CNAME records
// stay in front in their order, which is that of the chain; all others are sorted.
func texts(rrs []dns.RR) []string {
	var chain, others []string
	for _, rr := range rrs {
		if _, ok := rr.(*dns.CNAME); ok && len(others) == 0 {
			chain = append(chain, textOf(rr))
		} else {
			others = append(others, textOf(rr))
		}
	}
	slices.Sort(others)
	return append(chain, others...)
}

// textOf leaves out what two servers cannot agree on: the serial number, which is
// the time of a change, and what a cache has made of a foreign record's TTL.
func textOf(rr dns.RR) string {
	rr = dns.Copy(rr)
	ttl := strconv.FormatUint(uint64(rr.Header().Ttl), 10)
	if foreign(rr.Header().Name) {
		ttl = "*"
	}
	if soa, ok := rr.(*dns.SOA); ok && !foreign(soa.Hdr.Name) && soa.Serial > 1<<30 {
		soa.Serial = 1
	}
	words := strings.Fields(rr.String())
	words[1] = ttl
	return strings.Join(words, " ")
}

// foreign reports whether a name is the upstream resolver's.
func foreign(name string) bool {
	return name == "." || name == upstreamPointer || dns.IsSubDomain(upstreamZone, name)
}

// text is the form of a reply in testdata/questions.txt.
func (r reply) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "= %s\n", strings.Join(append([]string{r.rcode}, r.flags...), " "))
	for _, section := range []struct {
		mark    string
		records []string
	}{{" ", r.answer}, {"!", r.authority}, {"+", r.additional}} {
		for _, s := range section.records {
			fmt.Fprintf(&b, "%s %s\n", section.mark, s)
		}
	}
	if r.opt != "" {
		fmt.Fprintf(&b, "+ %s\n", r.opt)
	}
	return b.String()
}
