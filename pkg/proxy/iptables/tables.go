package iptables

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	goiptables "github.com/coreos/go-iptables/iptables"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// lockWait is how long a program waits for the lock of the legacy tables, in
// seconds. As with kube-proxy.
const lockWait = 5

// restoreTime bounds one restore. It is far above what 50,000 Services take, and only there so
// that a program that hangs does not hang the proxy.
const restoreTime = 2 * time.Minute

// Tables are the tables of one family, reached through the programs of one
// backend.
//
// Restore writes many chains at once and is what changes go through: each table
// of its input is atomic. Single rules are touched only in the kernel's own chains, where
// other people's rules are.
//
// Not safe for concurrent use. See the package comment for network namespaces.
type Tables struct {
	family  ruleset.Family
	backend Backend
	names   programs
	rules   *goiptables.IPTables
	witness *Witness
}

// Open returns the tables of family, by the programs of backend, whose witness is
// given. The error is a MissingProgramError, ErrLocked, or says that the kernel
// does not have the family's tables.
func Open(ctx context.Context, backend Backend, family ruleset.Family, witness *Witness) (*Tables, error) {
	names, err := find(ctx, backend, family)
	if err != nil {
		return nil, err
	}
	proto := goiptables.ProtocolIPv4
	if family == ruleset.IPv6 {
		proto = goiptables.ProtocolIPv6
	}
	rules, err := goiptables.New(goiptables.IPFamily(proto), goiptables.Path(names.rule), goiptables.Timeout(lockWait))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names.rule, err)
	}
	t := &Tables{family: family, backend: backend, names: names, rules: rules, witness: witness}
	if err := t.Check(ctx, "*nat\nCOMMIT\n"); err != nil {
		return nil, fmt.Errorf("no %s tables: %w", family, err)
	}
	return t, nil
}

// Backend returns the backend.
func (t *Tables) Backend() Backend { return t.backend }

// Family returns the address family.
func (t *Tables) Family() ruleset.Family { return t.family }

// Restore applies text, which is input for iptables-restore --noflush. Each table
// in it is applied as a whole or not at all. The error is ErrLocked, a
// RefusedError, a BrokenOffError or a MissingProgramError. A restore that has
// begun is not broken off when ctx ends, as half of the tables would be written
// then; it has two minutes.
func (t *Tables) Restore(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
	defer cancel()
	return t.witness.during(func() (int, error) {
		_, err := t.restore(ctx, text)
		return commits(text, err), err
	})
}

// commits returns how many tables a restore of text with this outcome has
// written; -1 if that is not known.
func commits(text string, err error) int {
	refused, ok := errors.AsType[*RefusedError](err)
	switch {
	case err == nil:
		return len(ruleset.Committed(text, math.MaxInt))
	case errors.Is(err, ErrLocked):
		return 0
	case ok && refused.Line > 0:
		return len(ruleset.Committed(text, refused.Line))
	}
	return -1
}

// Untouched reports whether surely nobody else has written to the tables since
// Existing was called last. The error says that it cannot be known.
func (t *Tables) Untouched(context.Context) (bool, error) { return t.witness.untouched(t.family) }

// Check finds out whether Restore would take text, without applying it. It finds
// what the program refuses, not all that the kernel does. Errors as for Restore.
func (t *Tables) Check(ctx context.Context, text string) error {
	stderr, err := t.restore(ctx, text, "--test")
	if err == nil && strings.Contains(stderr, "missing kernel module") {
		return refused(t.names.restore, text, stderr)
	}
	return err
}

func (t *Tables) restore(ctx context.Context, text string, args ...string) (string, error) {
	args = append([]string{"--noflush", "--counters", "-w", strconv.Itoa(lockWait)}, args...)
	stderr, err := run(ctx, strings.NewReader(text), io.Discard, t.names.restore, args...)
	if err == nil {
		return stderr, nil
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return stderr, refused(t.names.restore, text, stderr)
	}
	if _, ok := errors.AsType[*MissingProgramError](err); ok {
		return stderr, err
	}
	return stderr, &BrokenOffError{Program: t.names.restore, Err: err}
}

// Existing returns the chains that belong to Signpost, the rules in other people's
// chains that lead to them, and Signpost's IP sets. A chain that has the rules
// that want gives it is that of want, any other has them as the program lists them.
// So what is kept of a hundred thousand rules is what is not as it should be.
func (t *Tables) Existing(ctx context.Context, want *ruleset.Set) (*ruleset.Existing, error) {
	r := reading{chains: map[ruleset.Key]*ruleset.Chain{}, want: want}
	err := t.witness.read(t.family, func() error { return saved(ctx, t.names.save, r.line) })
	r.settle(nil)
	if err := errors.Join(append(r.errs, err)...); err != nil {
		return nil, err
	}
	r.out.Set = *r.out.Set.With(r.chains)
	sets, err := ipSets(t.family)
	r.out.IPSets = sets
	return &r.out, err
}

// reading is what has been read of a table.
type reading struct {
	out    ruleset.Existing
	chains map[ruleset.Key]*ruleset.Chain
	errs   []error
	want   *ruleset.Set
	// last is the chain of the last rule: a program lists one after another.
	last *ruleset.Chain
}

// settle is called with the chain of each rule, before it is added.
func (r *reading) settle(next *ruleset.Chain) {
	if last := r.last; last != nil && last != next {
		if w := r.want.Get(last.Key); w != nil && last.Same(w) {
			r.chains[last.Key] = w
		}
	}
	r.last = next
}

func (r *reading) line(table ruleset.Table, l string) {
	if name, ok := strings.CutPrefix(l, ":"); ok {
		name, _, _ = strings.Cut(name, " ")
		if k := (ruleset.Key{Table: table, Name: name}); k.Own() {
			r.chains[k] = &ruleset.Chain{Key: k}
		}
		return
	}
	rule, ok := strings.CutPrefix(l, "-A ")
	if !ok {
		return
	}
	name, rest, _ := strings.Cut(rule, " ")
	from := ruleset.Key{Table: table, Name: name}
	if c := r.chains[from]; c != nil {
		r.settle(c)
		c.Rules = append(c.Rules, ruleset.Rule(rest))
		return
	}
	if !strings.Contains(rest, ruleset.Prefix) {
		return // in the chains of others most rules do not lead to ours
	}
	words, err := ruleset.Fields(rest)
	if err != nil {
		r.errs = append(r.errs, err)
	}
	i := slices.IndexFunc(words, func(w string) bool { return w == "-j" || w == "-g" })
	if i >= 0 && i+1 < len(words) && strings.HasPrefix(words[i+1], ruleset.Prefix) {
		r.out.Jumps = append(r.out.Jumps, ruleset.Jump{From: from, Target: words[i+1], Rule: ruleset.Rule(rest)})
	}
}

// saved calls see with every line that a save program prints, but comments. A
// table that nobody uses is not printed, and not created by looking.
func saved(ctx context.Context, program string, see func(table ruleset.Table, line string)) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- scan(r, see) }()
	stderr, err := run(ctx, nil, w, program)
	w.CloseWithError(err)
	if scanErr := <-done; err == nil {
		err = scanErr
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, firstLine(stderr))
	}
	return nil
}

func scan(r *io.PipeReader, see func(table ruleset.Table, line string)) error {
	var table ruleset.Table
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		l := lines.Text()
		if name, ok := strings.CutPrefix(l, "*"); ok {
			table = ruleset.Table(name)
		} else if !strings.HasPrefix(l, "#") {
			see(table, l)
		}
	}
	err := lines.Err()
	r.CloseWithError(err)
	return err
}
