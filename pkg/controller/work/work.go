package work

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Queue is what workers need of a workqueue of client-go.
type Queue[K comparable] interface {
	Get() (key K, shutdown bool)
	Done(key K)
	ShutDown()
}

// Do has n workers handle the keys of a queue, each key by one at a time, and runs
// what else is to run beside them. When ctx is done or something beside has
// failed, it shuts the queue down, waits for all, and returns that error or nil.
func Do[K comparable](ctx context.Context, queue Queue[K], n int, handle func(context.Context, K), beside ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		queue.ShutDown()
		return nil
	})
	for _, run := range beside {
		g.Go(func() error { return run(ctx) })
	}
	for range n {
		g.Go(func() error {
			for {
				key, shutdown := queue.Get()
				if shutdown || ctx.Err() != nil {
					return nil
				}
				handle(ctx, key)
				queue.Done(key)
			}
		})
	}
	return g.Wait()
}
