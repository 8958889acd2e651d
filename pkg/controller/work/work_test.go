package work

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/workqueue"
)

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		queue := workqueue.NewTyped[int]()
		var mu sync.Mutex
		var handled []int
		busy := map[int]bool{}
		for k := range 10 {
			queue.Add(k)
		}
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			done <- Do(ctx, queue, 5, func(_ context.Context, k int) {
				mu.Lock()
				if busy[k] {
					t.Errorf("%d is handled twice at once", k)
				}
				busy[k] = true
				handled = append(handled, k)
				mu.Unlock()
				queue.Add(k % 2) // while it is being handled
				time.Sleep(time.Second)
				mu.Lock()
				busy[k] = false
				mu.Unlock()
			}, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mu.Lock()
		first := slices.Sorted(slices.Values(handled[:10]))
		mu.Unlock()
		if !slices.Equal(first, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("after two rounds of five workers: %v", handled)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

// TestDoFails: what fails beside the workers ends them.
func TestDoFails(t *testing.T) {
	wrong := errors.New("wrong")
	queue := workqueue.NewTyped[int]()
	err := Do(t.Context(), queue, 2, func(context.Context, int) {}, func(context.Context) error { return wrong })
	if !errors.Is(err, wrong) || !queue.ShuttingDown() {
		t.Errorf("%v, queue shut down: %v", err, queue.ShuttingDown())
	}
}
