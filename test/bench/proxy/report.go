package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/bench/world"
)

func head() {
	fmt.Println("| cluster | | start, its CPU | alone: first on the new, last on the old | under changes | memory (peak), MiB | rules | connection: bare; first, middle, last; beside |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
}

// report prints the row of a contender.
func report(s world.Shape, name string, r *result) {
	if r.late {
		fmt.Printf("| %v | %s | not within %v | | | | | |\n", s, name, startLimit)
		return
	}
	var under []string
	for _, u := range r.updates[1:] {
		under = append(under, fmt.Sprintf("%v/s: %s", u.rate, u.text()))
	}
	fmt.Printf("| %v | %s | %s, %s | %s | %s | %s | %d | %s; %s, %s, %s; %s |\n",
		s, name, short(r.start), short(r.startup), r.updates[0].text(), strings.Join(under, "; "), r.memory.Memory(), r.rules,
		middle(r.costs["bare"]), middle(r.costs["first"]), middle(r.costs["middle"]), middle(r.costs["last"]), middle(r.costs["beside"]))
}

// text is like "17 / 31 ms, 16 / 30 ms, n 50, 4.1 ms CPU each".
func (u *updates) text() string {
	out := fmt.Sprintf("%s / %s, %s / %s, n %d", short(percentile(u.first, 0.5)), short(percentile(u.first, 0.99)),
		short(percentile(u.last, 0.5)), short(percentile(u.last, 0.99)), len(u.first))
	if u.late > 0 {
		out += fmt.Sprintf(" and %d not within %v", u.late, swapLimit)
	}
	if u.failed > 0 {
		out += fmt.Sprintf(", %d connections failed", u.failed)
	}
	if u.changes > 0 {
		out += fmt.Sprintf(", %s CPU each of %d", short(u.cpu/time.Duration(u.changes)), u.changes)
	}
	return out
}

func middle(times []time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(percentile(times, 0.5).Nanoseconds())/1000)
}

// short is a time with as many digits as it deserves.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
