package nodes

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
)

const (
	// pause is between two looks at all nodes.
	pause = 500 * time.Millisecond
	// lookLimit bounds how long it takes to look at a suspect, and with that how
	// late another one is.
	lookLimit = time.Second
	// mostLooks is how many suspects are looked at each time: those first that were
	// not for the longest time.
	mostLooks = 64
	// A node that has been silent for oldSilence is looked at only every oldPause.
	oldSilence = time.Minute
	oldPause   = 5 * time.Second
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Peers are the daemons of the other nodes. All of it must be safe for concurrent
// use.
type Peers interface {
	// ProbeAll says whether all nodes are to be probed, or only few.
	ProbeAll(all bool)
	// Opinions returns what this node hears of each other.
	Opinions() map[string]evidence.Opinion
	// About asks those who probe a node what they hear of it. It takes a fraction of
	// a second at most.
	About(ctx context.Context, node string) []evidence.Opinion
	// Vouch has a node that this one never heard be silent for so long.
	Vouch(node string, silence time.Duration)
}

// Endpoints takes the endpoints of dead nodes out.
type Endpoints interface {
	// SetDead is told of all nodes that are dead, each with the reason, whenever
	// that changes. It must not block.
	SetDead(nodes map[string]string)
}

// Options are what a Watcher is made of.
type Options struct {
	// Leases reads the Leases of nodes, past any cache.
	Leases    client.Reader
	Peers     Peers
	Endpoints Endpoints
	Mode      evidence.Mode
	// Recorder may be nil: no Events.
	Recorder   Recorder
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Watcher watches for dead nodes, for one term.
type Watcher struct {
	options Options
	metrics *metrics
	memory  evidence.Memory
	looks   map[string]look
	// asked is the last of the nodes never heard of that others were asked about.
	asked string
	// dead and kept are what was told last.
	dead, kept map[string]string
	tooMany    bool
}

// look is what was found out about a suspect, and when.
type look struct {
	at    time.Time
	peers []evidence.Opinion
	lease evidence.Lease
	err   error // of reading the Lease
}

// New returns a Watcher for one Run. It may be called any number of times with
// the same Registerer: the metrics go on counting.
func New(o Options) (*Watcher, error) {
	if o.Leases == nil || o.Peers == nil || o.Endpoints == nil || o.Registerer == nil || o.Log == nil {
		return nil, errors.New("node watcher: Leases, Peers, Endpoints, Registerer and Log are needed")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Watcher{options: o, metrics: m, looks: map[string]look{}, dead: map[string]string{}, kept: map[string]string{}}, nil
}

// Start finds out which nodes have been dead before the term, by what others have
// heard. Without it, a new leader would put the endpoints of a dead node back
// until it has itself heard nothing for long enough. Call it before Run, and
// before the endpoint controller runs. It takes a second at most.
func (w *Watcher) Start(ctx context.Context) {
	w.options.Peers.ProbeAll(true)
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	w.askAboutUnknown(ctx, mostLooks)
	w.step(ctx)
}

// Run watches until ctx is done, and returns nil then. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	w.options.Peers.ProbeAll(true)
	defer w.options.Peers.ProbeAll(false)
	defer w.metrics.forget()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			w.askAboutUnknown(ctx, mostAskedAbout)
			w.step(ctx)
		}
	}
}

// step looks at the suspects, decides, and tells what has changed.
func (w *Watcher) step(ctx context.Context) {
	opinions := w.options.Peers.Opinions()
	suspects := w.suspects(opinions)
	nodes := len(opinions) + 1
	fresh := map[string]bool{}
	if !evidence.TooMany(len(suspects), nodes) { // or nobody is taken out anyway
		fresh = w.lookAt(ctx, suspects)
	}
	if ctx.Err() != nil && len(suspects) > 0 {
		return // what could not be found out says nothing
	}
	in := evidence.Input{Mode: w.options.Mode, Now: time.Now(), Nodes: nodes}
	for _, s := range suspects {
		l := w.looks[s.Node]
		s.Peers, s.Lease, s.Fresh = l.peers, l.lease, fresh[s.Node]
		in.Suspects = append(in.Suspects, s)
	}
	out := evidence.Weigh(in, w.memory)
	w.memory = out.Memory
	w.tell(out)
}

// suspects returns the silent nodes, and forgets what was seen of others.
func (w *Watcher) suspects(opinions map[string]evidence.Opinion) []evidence.Suspect {
	var out []evidence.Suspect
	for name, o := range opinions {
		if o.State == evidence.Silent {
			out = append(out, evidence.Suspect{Node: name, Silence: o.Silence})
		}
	}
	maps.DeleteFunc(w.looks, func(name string, _ look) bool { return opinions[name].State != evidence.Silent })
	return out
}

// tell hands on what has changed, and says so.
func (w *Watcher) tell(out evidence.Outcome) {
	w.metrics.set(out)
	if !maps.Equal(w.dead, out.Dead) {
		w.options.Endpoints.SetDead(maps.Clone(out.Dead))
	}
	for _, name := range slices.Sorted(maps.Keys(out.Dead)) {
		if _, known := w.dead[name]; !known {
			w.metrics.changes.WithLabelValues("removed").Inc()
			w.options.Log.Warn("a node is dead: its endpoints are taken out", "node", name, "evidence", out.Dead[name])
			w.event(name, corev1.EventTypeWarning, "EndpointsRemoved", "Node is dead, its endpoints are taken out of all Services: "+out.Dead[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.dead)) {
		if _, still := out.Dead[name]; !still {
			why := out.Kept[name]
			if why == "" {
				why = "the node gives signs of life"
			}
			w.metrics.changes.WithLabelValues("restored").Inc()
			w.options.Log.Info("a node is not dead: its endpoints are put back", "node", name, "evidence", why)
			w.event(name, corev1.EventTypeNormal, "EndpointsRestored", "Endpoints of the node are put back as their pods are: "+why)
		}
	}
	if out.TooMany && !w.tooMany {
		w.options.Log.Warn("too many nodes are silent at once for them to be dead: all endpoints are kept", "silent", len(w.memory))
	}
	if !out.TooMany {
		for name, why := range out.Kept {
			if _, told := w.kept[name]; !told {
				w.options.Log.Info("a node is silent: its endpoints are kept for now", "node", name, "because", why)
			}
		}
	}
	w.dead, w.kept, w.tooMany = out.Dead, out.Kept, out.TooMany
}

// event makes an Event on a Node, where `kubectl describe node` looks for it: as
// kubelets do, by the name as UID.
func (w *Watcher) event(node, eventType, reason, message string) {
	if w.options.Recorder != nil {
		w.options.Recorder.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)}, eventType, reason, "%s", message)
	}
}
