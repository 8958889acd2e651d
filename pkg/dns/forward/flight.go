package forward

import (
	"context"
	"errors"
	"sync"

	"github.com/miekg/dns"
)

// errAbandoned is what those who wait get when the one who asked panicked.
var errAbandoned = errors.New("the question was abandoned")

// flights makes those who ask the same at the same time share one answer. The
// zero value is ready for use.
type flights struct {
	mu sync.Mutex
	m  map[Query]*flight
}

type flight struct {
	done chan struct{} // closed when m and err are final
	m    *dns.Msg
	err  error
}

// do calls ask, or waits for the call for q that is under way; shared tells
// which. The message is the same for all and must not be changed.
func (fs *flights) do(ctx context.Context, q Query, ask func() (*dns.Msg, error)) (m *dns.Msg, shared bool, err error) {
	fs.mu.Lock()
	if fl, ok := fs.m[q]; ok {
		fs.mu.Unlock()
		select {
		case <-fl.done:
			return fl.m, true, fl.err
		case <-ctx.Done():
			return nil, true, ctx.Err()
		}
	}
	if fs.m == nil {
		fs.m = map[Query]*flight{}
	}
	fl := &flight{done: make(chan struct{}), err: errAbandoned}
	fs.m[q] = fl
	fs.mu.Unlock()

	defer func() {
		fs.mu.Lock()
		delete(fs.m, q)
		fs.mu.Unlock()
		close(fl.done)
	}()
	fl.m, fl.err = ask()
	return fl.m, false, fl.err
}
