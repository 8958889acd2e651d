package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/health"
)

// gcPercent is how much the heap grows before garbage is collected: by half of
// what is alive, and not by as much again. A daemon that only waits for changes
// has a heap that lives for long and little that does not, so it costs little time.
const gcPercent = 50

// spareMemory has garbage collected earlier than the runtime would, but for who has
// set GOGC, and returns once, when all is ready, what only the beginning took.
func spareMemory(ctx context.Context, ready []health.Check) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	notReady := func(c health.Check) bool { return c.Check() != nil }
	for slices.ContainsFunc(ready, notReady) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	debug.FreeOSMemory()
}
