package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"regexp"
	"strings"
	"time"
)

func main() {
	each := flag.Duration("each", time.Minute, "how long to run each fuzz test")
	only := flag.String("only", "", "part of the name of the tests to run, as in dns/forward.FuzzKey; all if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *only, *each); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, only string, each time.Duration) error {
	tests, err := list(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tests {
		if !strings.Contains(t.name(), only) || ctx.Err() != nil {
			continue
		}
		inputs, err := t.run(ctx, each)
		fmt.Fprintf(out, "%-45s %s inputs\n", t.name(), inputs)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.name(), err))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// fuzzTest is one function.
type fuzzTest struct{ pkg, function string }

// name is short, and tells it from all others.
func (t fuzzTest) name() string {
	_, below, found := strings.Cut(t.pkg, "/pkg/")
	if !found {
		below = path.Base(t.pkg)
	}
	return below + "." + t.function
}

// list finds all fuzz tests that need no build tag.
func list(ctx context.Context) ([]fuzzTest, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...")
	cmd.Stderr = os.Stderr
	listed, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -list: %w", err)
	}
	return parseList(string(listed)), nil
}

// parseList reads what go test -list prints: the names, and then their package.
func parseList(listed string) []fuzzTest {
	var tests []fuzzTest
	var functions []string
	for line := range strings.Lines(listed) {
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && strings.HasPrefix(words[0], "Fuzz"):
			functions = append(functions, words[0])
		case len(words) > 1 && words[0] == "ok":
			for _, f := range functions {
				tests = append(tests, fuzzTest{words[1], f})
			}
			functions = nil
		}
	}
	return tests
}

var executions = regexp.MustCompile(`execs: (\d+)`)

// run runs the test and returns the number of inputs that it has seen. What it prints
// is shown only if it fails.
func (t fuzzTest) run(ctx context.Context, each time.Duration) (inputs string, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.function+"$", "-fuzztime", each.String(), t.pkg)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "0", err
	}
	if err := cmd.Start(); err != nil {
		return "0", err
	}
	inputs = "0"
	var printed strings.Builder
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		printed.WriteString(lines.Text() + "\n")
		if m := executions.FindStringSubmatch(lines.Text()); m != nil {
			inputs = m[1]
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return inputs, fmt.Errorf("%w\n%s", err, printed.String())
	}
	return inputs, nil
}
