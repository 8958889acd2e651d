package main

import (
	"fmt"
	"strings"
	"time"
)

func (d *demo) heading(title string) { fmt.Fprintf(d.out, "\n== %s\n", title) }

// report ends a step with a check mark or the reason why it has none.
func (d *demo) report(title, finding string, took time.Duration, err error) {
	l := line{title, finding, took, err != nil}
	if err != nil {
		l.finding = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	d.lines = append(d.lines, l)
	fmt.Fprintln(d.out, l.mark(), l.finding)
}

func (l line) mark() string {
	if l.failed {
		return "✗"
	}
	return "✓"
}

// summary is the table at the end, and how to go on.
func (d *demo) summary(removed bool) {
	failed := 0
	fmt.Fprintln(d.out, "\n== Summary")
	for _, l := range d.lines {
		if l.failed {
			failed++
		}
		fmt.Fprintf(d.out, "%s %6.1f s  %-46s %s\n", l.mark(), l.took.Seconds(), l.title, l.finding)
	}
	fmt.Fprintf(d.out, "\n%d of %d steps succeeded in %.0f s.\n", len(d.lines)-failed, len(d.lines), time.Since(d.begin).Seconds())
	if !removed {
		fmt.Fprintln(d.out, "The cluster stays up: go run ./hack/cluster kubectl get pods -A; remove it with: make cluster-down")
	}
}
