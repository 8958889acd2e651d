//go:build integration

package names

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var update = flag.Bool("update", false, "write the answers as they are into testdata/questions.txt")

const table = "testdata/questions.txt"

// row is a question of the table and its answer. Lines of the table begin with
//
//	?  the question
//	=  the response code and flags; then the sections:
//	   (a blank) a record of the answer
//	!  a record of the authority section
//	+  a record of the additional section
//	~  the names of the differences from CoreDNS, those that are everywhere excepted
type row struct {
	comments    string
	question    question
	want        string
	differences []string
}

// TestTable asks both servers about the objects of testdata/objects.yaml. Signpost
// must answer exactly so, and CoreDNS exactly so but for the named differences.
func TestTable(t *testing.T) {
	w := newWorld(t)
	w.load("testdata/objects.yaml")
	w.settle()
	var out strings.Builder
	for _, r := range readTable(t) {
		got := w.compare(r.question)
		t.Run(r.question.String(), func(t *testing.T) {
			got.check(t, r.question)
			if diff := cmp.Diff(r.want, got.ours.text()); diff != "" && !*update {
				t.Errorf("our answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(r.differences, got.differences); diff != "" && !*update {
				t.Errorf("differences from CoreDNS (-want +got):\n%s", diff)
			}
		})
		r.want, r.differences = got.ours.text(), got.differences
		out.WriteString(r.text())
	}
	if *update {
		if err := os.WriteFile(table, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readTable(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	comments := ""
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if line == "" || line[0] == '#' {
			comments += line + "\n"
			continue
		}
		if err := readLine(&rows, &comments, line); err != nil {
			t.Fatalf("%s:%d: %v", table, i+1, err)
		}
	}
	if len(rows) < 120 {
		t.Fatalf("%s has %d questions, want at least 120", table, len(rows))
	}
	return rows
}

func readLine(rows *[]row, comments *string, line string) error {
	if rest, ok := strings.CutPrefix(line, "? "); ok {
		q, err := parseQuestion(rest)
		*rows = append(*rows, row{question: q, comments: *comments})
		*comments = ""
		return err
	}
	if len(*rows) == 0 {
		return fmt.Errorf("%q belongs to no question", line)
	}
	last := &(*rows)[len(*rows)-1]
	if rest, ok := strings.CutPrefix(line, "~ "); ok {
		last.differences = strings.Fields(rest)
		return nil
	}
	if !strings.ContainsRune("= !+", rune(line[0])) {
		return fmt.Errorf("%q: a line begins with one of #?= !+~", line)
	}
	last.want += line + "\n"
	return nil
}

func (r row) text() string {
	out := r.comments + "? " + r.question.String() + "\n" + r.want
	if len(r.differences) > 0 {
		out += "~ " + strings.Join(r.differences, " ") + "\n"
	}
	return out
}

// comparison is one question's replies.
type comparison struct {
	ours reply
	// explained is what CoreDNS would have answered if it did as we do, in those
	// points in which we differ on purpose; differences are the names of these.
	explained   reply
	differences []string
	// fault is what is wrong with a reply that was cut, which is not compared as a
	// whole, or with one to the same question asked again.
	fault error
}

// compare asks both servers.
func (w *world) compare(q question) comparison {
	w.t.Helper()
	ours, err := w.ours.ask(q)
	if err != nil {
		w.t.Fatal(err)
	}
	c := comparison{ours: replyOf(ours)}
	if c.fault = w.again(q, ours); c.fault != nil {
		c.explained = c.ours
		return c
	}
	if unsettled(q) {
		c.explained, c.differences = c.ours, []string{"unsettled"}
		return c
	}
	theirs, err := w.coreDNS.ask(q)
	if err != nil {
		w.t.Fatal(err)
	}
	switch {
	case mayBeCut(q, ours, theirs):
		c.explained, c.differences = c.ours, []string{truncation}
		c.fault = w.truncated(q, c.ours)
	default:
		c.explained, c.differences = w.explain(q, replyOf(theirs))
		slices.Sort(c.differences)
	}
	return c
}

// again asks our server the same once more, over UDP: it keeps what it was asked for
// that way, and answers from that. What is cut holds other records each time.
func (w *world) again(q question, first *dns.Msg) error {
	if q.tcp {
		return nil
	}
	second, err := w.ours.ask(q)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(replyOf(first).text(), replyOf(second).text()); diff != "" && !mayBeCut(q, first, second) {
		return fmt.Errorf("asked again, it is another (-first +second):\n%s", diff)
	}
	return nil
}

// check reports what is unexplained.
func (c comparison) check(t *testing.T, q question) {
	t.Helper()
	if c.fault != nil {
		t.Errorf("%s: %v; ours:\n%s", q, c.fault, c.ours.text())
	}
	if diff := cmp.Diff(c.explained.text(), c.ours.text()); diff != "" {
		t.Errorf("%s: unexplained difference (-CoreDNS +Signpost), explained are %v:\n%s", q, c.differences, diff)
	}
}
