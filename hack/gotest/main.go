// Command gotest runs `go test` with the arguments it is given, prints a line
// for each package and all of the output of what failed, and fails when a test
// was skipped: a check that did not run is not a check that passed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

func main() {
	failed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "gotest: %v\n", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) (failed bool, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return true, err
	}
	if err := cmd.Start(); err != nil {
		return true, err
	}
	var r report
	if err := r.read(stdout, out); err != nil {
		return true, err
	}
	// go test has said by now what failed; only its exit code is of interest, as
	// it also tells of packages that do not build.
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return true, err
	}
	bad := r.summary(out)
	return bad || err != nil, nil
}

// event is what `go test -json` prints, see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type key struct{ pkg, test string }

// report collects what happened to tests.
type report struct {
	passed          int
	failed, skipped []key
	output          map[key]*strings.Builder
}

func (r *report) read(in io.Reader, out io.Writer) error {
	r.output = map[key]*strings.Builder{}
	for decoder := json.NewDecoder(in); ; {
		var e event
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the output of go test: %w", err)
		}
		r.take(e, out)
	}
}

func (r *report) take(e event, out io.Writer) {
	if e.Action == "build-output" {
		_, _ = io.WriteString(out, e.Output)
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.output[k] == nil {
			r.output[k] = &strings.Builder{}
		}
		r.output[k].WriteString(e.Output)
		return
	case "pass":
		if e.Test != "" {
			r.passed++
		}
	case "fail":
		if text := r.output[k]; text != nil {
			_, _ = io.WriteString(out, text.String())
		}
		if e.Test != "" {
			r.failed = append(r.failed, k)
		}
	case "skip":
		// Without a test it is a package that has no test files.
		if e.Test != "" {
			r.skipped = append(r.skipped, k)
		}
	default:
		return
	}
	delete(r.output, k)
	if e.Test == "" && e.Action != "skip" {
		took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
		_, _ = fmt.Fprintf(out, "%-5s %s (%s)\n", e.Action, e.Package, took)
	}
}

// summary prints what there is to know at the end, and tells whether it is bad.
func (r *report) summary(out io.Writer) bool {
	for _, list := range []struct {
		what string
		keys []key
	}{{"FAILED ", r.failed}, {"SKIPPED", r.skipped}} {
		slices.SortFunc(list.keys, func(a, b key) int { return strings.Compare(a.pkg+a.test, b.pkg+b.test) })
		for _, k := range list.keys {
			_, _ = fmt.Fprintf(out, "%s %s %s\n", list.what, k.pkg, k.test)
		}
	}
	if len(r.skipped) > 0 {
		_, _ = fmt.Fprintln(out, "skipped tests count as failed: install what they miss, or remove them")
	}
	if r.passed == 0 {
		_, _ = fmt.Fprintln(out, "no test ran")
	}
	_, _ = fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", r.passed, len(r.failed), len(r.skipped))
	return r.passed == 0 || len(r.failed) > 0 || len(r.skipped) > 0
}
