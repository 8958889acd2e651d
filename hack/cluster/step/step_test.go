package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := Printer{Out: &out}
		if err := p.Do("kubelet built", func() error { time.Sleep(25500 * time.Millisecond); return nil }); err != nil {
			t.Fatal(err)
		}
		failure := errors.New("no")
		if err := p.Do("kubectl built", func() error { return failure }); !errors.Is(err, failure) {
			t.Errorf("Do() = %v, want %v", err, failure)
		}
		const want = "    … kubelet built: 10 s\n    … kubelet built: 20 s\n==> kubelet built (25.5 s)\n"
		if out.String() != want {
			t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
		}
	})
}

func TestFailure(t *testing.T) {
	log := filepath.Join(t.TempDir(), "etcd.log")
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	if err := os.WriteFile(log, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("address in use")
	err := &Failure{What: "etcd did not start", Err: cause, Log: log, Hint: "Free the port."}
	got := err.Error()
	if !errors.Is(err, cause) || !strings.HasPrefix(got, "etcd did not start: address in use\nlog: "+log+"\n  | line 1992\n") ||
		!strings.HasSuffix(got, "  | line 1999\nFree the port.") {
		t.Errorf("Error() =\n%s", got)
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := Await(t.Context(), time.Minute, func(context.Context) error {
			if calls++; calls < 5 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || calls != 5 {
			t.Errorf("Await() = %v after %d calls, want nil after 5", err, calls)
		}
		err = Await(t.Context(), time.Minute, func(context.Context) error { return errors.New("no node is ready") })
		if err == nil || err.Error() != "not within 1m0s: no node is ready" {
			t.Errorf("Await() = %v", err)
		}
		calls = 0
		err = Await(t.Context(), time.Minute, func(context.Context) error { calls++; return fmt.Errorf("it ended: %w", ErrHopeless) })
		if !errors.Is(err, ErrHopeless) || calls != 1 {
			t.Errorf("Await() = %v after %d calls, want one that gives up", err, calls)
		}
	})
}
