package ledger

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// Batch makes the writes of one plan for one Service and notes them in the
// Ledger. Its methods but End may be called from several goroutines at once.
type Batch struct {
	ledger *Ledger
	key    Key

	mu sync.Mutex
	// versions are those of objects that this batch has written: a second write
	// starts from the first one's result.
	versions map[ID]string
}

// Begin opens a batch, which must be ended. One Service has one at a time.
func (l *Ledger) Begin(k Key) *Batch {
	l.begin(k)
	return &Batch{ledger: l, key: k, versions: map[ID]string{}}
}

// End says whether somebody else wrote since Begin, so that there has to be
// another plan.
func (b *Batch) End() bool { return b.ledger.end(b.key) }

// Written returns the versions of what the batch has created and updated, by what
// IDOf says.
func (b *Batch) Written() map[ID]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.versions)
}

// Do makes one write, and fails if the object is not in the version any more
// that the plan was made from; see IsBehind. What is not there need not be
// deleted. The object is copied, for a client writes the answer into what it is
// given, and the plan's objects share memory with the caches.
func (b *Batch) Do(ctx context.Context, c client.Client, w plan.Write) error {
	o, ok := w.Object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", w.Object)
	}
	b.mu.Lock()
	if v, again := b.versions[IDOf(o)]; again && w.Verb != plan.Create {
		o.SetResourceVersion(v)
	}
	b.mu.Unlock()
	switch w.Verb {
	case plan.Create:
		if err := c.Create(ctx, o); err != nil {
			return err
		}
	case plan.Update:
		if len(o.GetManagedFields()) == 0 {
			o.SetManagedFields(untracked())
		}
		if err := c.Update(ctx, o); err != nil {
			if apierrors.IsNotFound(err) {
				b.ledger.removed(b.key, w.Object, time.Now())
			}
			return err
		}
	case plan.Delete:
		return b.remove(ctx, c, o)
	}
	b.mu.Lock()
	b.versions[IDOf(o)] = o.GetResourceVersion()
	b.mu.Unlock()
	b.ledger.wrote(b.key, o, time.Now())
	return nil
}

// untracked tells the server not to keep book of who wrote which field. Its book is
// about fields that several applicants share; of an object that nobody applies it
// costs a quarter of each update, and goes to all that watch.
func untracked() []metav1.ManagedFieldsEntry { return []metav1.ManagedFieldsEntry{{}} }

func (b *Batch) remove(ctx context.Context, c client.Client, o client.Object) error {
	err := c.Delete(ctx, o, client.Preconditions{
		UID: new(o.GetUID()), ResourceVersion: new(o.GetResourceVersion()),
	})
	if err == nil || apierrors.IsNotFound(err) {
		b.ledger.removed(b.key, o, time.Now())
		return nil
	}
	return err
}

// IsBehind says whether the server refused a write because of what others wrote.
func IsBehind(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}
