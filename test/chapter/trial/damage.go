package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Damage is what somebody else does to the rules of a node.
type Damage struct {
	Name string
	// Command is a shell command that is run on the node, with $SERVICE for the chain
	// that leads to the pods, $SAVE for what lists the rules and $PROGRAM for what changes them.
	Command string
}

// Damages are the ones that are worth trying.
func Damages() []Damage {
	return []Damage{
		{"a rule of the Service's chain", `$PROGRAM -t nat -D $SERVICE 1`},
		{"the Service's chain emptied", `$PROGRAM -t nat -F $SERVICE`},
		{"the hook in PREROUTING", `$PROGRAM -t nat -D PREROUTING -j SIGNPOST-SERVICES`},
		{"all of nat", `$PROGRAM -t nat -F && $PROGRAM -t nat -X`},
		{"all of filter", `$PROGRAM -t filter -F && $PROGRAM -t filter -X`},
	}
}

// Mended is what came of it.
type Mended struct {
	// After is the time from the damage until the rules were as before.
	After time.Duration
	HTTP  Tally
}

const (
	mendLimit = time.Minute
	// listedEach is the pause between two looks at the rules.
	listedEach = 50 * time.Millisecond
)

// Damage damages the rules of the client's node and waits until they are as before,
// while the Service is asked from the client pod.
func (b *Bench) Damage(ctx context.Context, d Damage, rate float64) (m Mended, err error) {
	number, err := lab.NodeNumber(b.From.Spec.NodeName)
	if err != nil {
		return m, err
	}
	program, before, err := b.rules(ctx, number)
	if err != nil {
		return m, err
	}
	chain, err := b.serviceChain(before)
	if err != nil {
		return m, err
	}
	probe, err := b.Probe(ctx, b.URL(), rate)
	if err != nil {
		return m, err
	}
	time.Sleep(time.Second)
	command := strings.NewReplacer("$SERVICE", chain, "$PROGRAM", program).Replace(d.Command)
	_, err = b.Node(ctx, number, "sh", "-c", command)
	damaged := time.Now()
	for err == nil {
		var now []string
		if _, now, err = b.rules(ctx, number); err == nil && slices.Equal(before, now) {
			m.After = time.Since(damaged)
			break
		}
		if m.After = time.Since(damaged); m.After > mendLimit {
			err = fmt.Errorf("the rules are not as before after %v", mendLimit)
		}
		time.Sleep(listedEach)
	}
	time.Sleep(time.Second)
	shots, stopErr := probe.Stop()
	m.HTTP = Count(shots)
	return m, errors.Join(err, stopErr)
}

// rules returns the program that the node's rules are written with, and the rules
// that are Signpost's, sorted.
func (b *Bench) rules(ctx context.Context, number int) (program string, rules []string, err error) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		text, err := b.Node(ctx, number, program+"-save")
		if err != nil {
			return "", nil, err
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "-A") && strings.Contains(line, "SIGNPOST-") {
				rules = append(rules, strings.TrimSpace(line))
			}
		}
		if len(rules) > 0 {
			slices.Sort(rules)
			return program, rules, nil
		}
	}
	return "", nil, fmt.Errorf("node%d has no rules of Signpost", number)
}

// serviceChain returns the chain that has the endpoints of the Service.
func (b *Bench) serviceChain(rules []string) (string, error) {
	for _, rule := range rules {
		if words := strings.Fields(rule); strings.Contains(rule, " -j DNAT ") && strings.Contains(rule, b.Namespace+"/"+service+":") {
			return words[1], nil
		}
	}
	return "", errors.New("no rule names the Service's endpoints")
}
