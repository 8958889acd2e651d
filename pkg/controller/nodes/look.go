package nodes

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
)

const (
	// mostAskedAbout is how many of the nodes that were never heard others are asked
	// about each time. Where a firewall drops the port these are all nodes, for ever.
	mostAskedAbout = 8
	// enoughVouch is how many others have to say that a node is silent which this
	// one never heard.
	enoughVouch = 2
)

// lookAt looks at the suspects whose turn it is, and returns which these were.
func (w *Watcher) lookAt(ctx context.Context, suspects []evidence.Suspect) map[string]bool {
	now := time.Now()
	due := slices.DeleteFunc(slices.Clone(suspects), func(s evidence.Suspect) bool {
		return s.Silence > oldSilence && now.Sub(w.looks[s.Node].at) < oldPause
	})
	slices.SortFunc(due, func(a, b evidence.Suspect) int {
		return cmp.Or(w.looks[a.Node].at.Compare(w.looks[b.Node].at), cmp.Compare(a.Node, b.Node))
	})
	due = due[:min(len(due), mostLooks)]
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	fresh := map[string]bool{}
	for _, s := range due {
		wg.Go(func() {
			l := look{at: now, peers: w.options.Peers.About(ctx, s.Node)}
			l.lease, l.err = w.lease(ctx, s.Node)
			mu.Lock()
			defer mu.Unlock()
			if l.err != nil && w.looks[s.Node].err == nil {
				w.options.Log.Warn("the Lease of a silent node cannot be read: its endpoints stay as they are", "node", s.Node, "error", l.err)
			}
			w.looks[s.Node], fresh[s.Node] = l, true
		})
	}
	wg.Wait()
	return fresh
}

// lease reads the Lease of a node.
func (w *Watcher) lease(ctx context.Context, node string) (evidence.Lease, error) {
	var l coordinationv1.Lease
	err := w.options.Leases.Get(ctx, client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: node}, &l)
	if err != nil || l.Spec.RenewTime == nil {
		return evidence.Lease{}, err
	}
	out := evidence.Lease{Known: true, Version: l.ResourceVersion, Renewed: l.Spec.RenewTime.Time}
	if seconds := l.Spec.LeaseDurationSeconds; seconds != nil {
		out.Duration = time.Duration(*seconds) * time.Second
	}
	return out, nil
}

// askAboutUnknown asks others about some of the nodes that this one has never
// heard: the next ones by name. A node that fell silent before this one first
// probed it is one of them.
func (w *Watcher) askAboutUnknown(ctx context.Context, most int) {
	opinions := w.options.Peers.Opinions()
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(opinions)) {
		if opinions[name].State == evidence.Unknown {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return
	}
	from, found := slices.BinarySearch(unknown, w.asked)
	if found {
		from++
	}
	var wg sync.WaitGroup
	for i := range min(most, len(unknown)) {
		name := unknown[(from+i)%len(unknown)]
		w.asked = name
		wg.Go(func() {
			if silence, ok := vouched(w.options.Peers.About(ctx, name)); ok {
				w.options.Peers.Vouch(name, silence)
			}
		})
	}
	wg.Wait()
}

// vouched returns for how long a node has been silent, if enough say that it is
// and nobody says that it is not.
func vouched(opinions []evidence.Opinion) (time.Duration, bool) {
	var silences []time.Duration
	for _, o := range opinions {
		switch o.State {
		case evidence.Alive:
			return 0, false
		case evidence.Silent:
			silences = append(silences, o.Silence)
		case evidence.Unknown:
		}
	}
	if len(silences) < enoughVouch {
		return 0, false
	}
	return slices.Min(silences), true
}
