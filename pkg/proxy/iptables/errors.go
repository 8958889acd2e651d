package iptables

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ErrLocked is what a program says when somebody else held the lock of the
// tables for the whole time that it was told to wait. Nothing was written.
var ErrLocked = errors.New("another program holds the iptables lock")

// MissingProgramError says that a program is not on this machine.
type MissingProgramError struct{ Program string }

func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("program %s not found in $PATH", e.Program)
}

// RefusedError says that a restore was refused, by the program or by the kernel.
type RefusedError struct {
	Program string
	// Line is the line at which it stopped, from 1. What was to be committed before that
	// line is committed, what comes after is not. 0 if the program did not
	// say; then it is not known what was committed.
	Line int
	// Text is that line.
	Text string
	// Message is what the program said.
	Message string
}

func (e *RefusedError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Program, e.Message)
	}
	return fmt.Sprintf("%s: line %d (%s): %s", e.Program, e.Line, e.Text, e.Message)
}

// BrokenOffError says that a restore did not come to its end, as when it is
// killed: it is not known what was committed.
type BrokenOffError struct {
	Program string
	Err     error
}

func (e *BrokenOffError) Error() string {
	return fmt.Sprintf("%s broke off, what it has written is unknown: %v", e.Program, e.Err)
}

// Unwrap returns the cause.
func (e *BrokenOffError) Unwrap() error { return e.Err }

// lineNumber finds the line in the messages of both programs:
//
//	Error occurred at line: 3
//	iptables-restore: line 4 failed
//	line 3: RULE_APPEND failed (Invalid argument): rule in chain A
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// refused makes an error of what a restore of text has said.
func refused(program, text, stderr string) error {
	if strings.Contains(stderr, "xtables lock") {
		return fmt.Errorf("%s: %w", program, ErrLocked)
	}
	out := &RefusedError{Program: program, Message: firstLine(stderr)}
	if m := lineNumber.FindStringSubmatch(stderr); m != nil {
		out.Line, _ = strconv.Atoi(m[1])
		out.Text = lineOf(text, out.Line)
	}
	return out
}

// firstLine returns the first line that says something, without the name and
// version of the program, and the advice on how to get help.
func firstLine(stderr string) string {
	for l := range strings.Lines(stderr) {
		l = strings.TrimSpace(l)
		for _, kind := range []string{"(nf_tables):", "(legacy):"} {
			if _, said, ok := strings.Cut(l, kind); ok {
				l = strings.TrimSpace(said)
			}
		}
		if l != "" {
			return l
		}
	}
	return "failed without a word"
}

func lineOf(text string, n int) string {
	i := 0
	for l := range strings.Lines(text) {
		if i++; i == n {
			return strings.TrimSpace(l)
		}
	}
	return ""
}
