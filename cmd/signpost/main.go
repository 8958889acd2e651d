// Command signpost is the whole of Kubernetes service discovery for one node.
// Run it without arguments for help.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(newRoot().ExecuteContext(ctx)))
}

// usageError is an error in what the caller gave: flags or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode is 0 after a signal, 2 for bad flags or configuration, else 1.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "signpost: %v\n", err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}
