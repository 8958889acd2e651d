package term

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coordinationinformers "k8s.io/client-go/informers/coordination/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lookout watches the Lease, and knows when it may be taken. It costs the API
// server one watch, and no request as long as somebody renews the Lease.
//
// As in client-go, a Lease has expired when it was seen to be the same for as
// long as it says, by the clock of who looks: clocks need not agree.
type lookout struct {
	informer cache.SharedIndexInformer
	synced   cache.DoneChecker

	mu     sync.Mutex
	record *resourcelock.LeaderElectionRecord // nil: there is no Lease
	since  time.Time                          // when record was first seen
	// changed is closed when record is replaced.
	changed chan struct{}
}

func newLookout(client kubernetes.Interface, namespace, name string) (*lookout, error) {
	l := &lookout{
		changed: make(chan struct{}),
		informer: coordinationinformers.NewFilteredLeaseInformer(client, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}),
	}
	handle, err := l.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    l.see,
		UpdateFunc: func(_, o any) { l.see(o) },
		DeleteFunc: func(any) { l.put(nil) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch the Lease: %w", err)
	}
	l.synced = handle.HasSyncedChecker()
	return l, nil
}

func (l *lookout) run(ctx context.Context) { l.informer.RunWithContext(ctx) }

func (l *lookout) see(o any) {
	if lease, ok := o.(*coordinationv1.Lease); ok {
		l.put(resourcelock.LeaseSpecToLeaderElectionRecord(&lease.Spec))
	}
}

func (l *lookout) put(record *resourcelock.LeaderElectionRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if record != nil && l.record != nil && same(*record, *l.record) {
		return
	}
	l.record, l.since = record, time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
}

func same(a, b resourcelock.LeaderElectionRecord) bool {
	return a.HolderIdentity == b.HolderIdentity && a.RenewTime.Equal(&b.RenewTime) &&
		a.LeaderTransitions == b.LeaderTransitions && a.LeaseDurationSeconds == b.LeaseDurationSeconds
}

// sight is what the lookout sees.
type sight struct {
	known       bool // false: the server has not answered yet
	holder      string
	transitions int
	// free is when the Lease is, or was, free to take.
	free    time.Time
	changed <-chan struct{}
}

func (l *lookout) look() sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := sight{known: cache.IsDone(l.synced), free: l.since, changed: l.changed}
	if l.record != nil {
		s.holder, s.transitions = l.record.HolderIdentity, l.record.LeaderTransitions
		if s.holder != "" {
			s.free = l.since.Add(time.Duration(l.record.LeaseDurationSeconds) * time.Second)
		}
	}
	return s
}

// expired says whether this state of the Lease was seen for long enough.
func (l *lookout) expired(record resourcelock.LeaderElectionRecord) bool {
	s := l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record != nil && same(record, *l.record) && !time.Now().Before(s.free)
}
