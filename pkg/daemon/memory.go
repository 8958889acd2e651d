package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/health"
)

// gcPercent is how much the heap grows before garbage is collected once all is
// ready: by half of what is alive, and not by as much again. A daemon that only waits
// for changes has a heap that lives for long and little that does not, so it costs
// little time. In the beginning it is the other way round.
const gcPercent = 50

// spareMemory has garbage collected earlier than the runtime would as soon as all is
// ready, and returns what only the beginning took; but not for who has set GOGC.
func spareMemory(ctx context.Context, ready []health.Check) {
	if os.Getenv("GOGC") != "" {
		return
	}
	notReady := func(c health.Check) bool { return c.Check() != nil }
	for slices.ContainsFunc(ready, notReady) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	debug.SetGCPercent(gcPercent)
	debug.FreeOSMemory()
}
