package endpoints

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

const (
	// silenceHolds is how long a node must have been called silent before it is
	// taken to be dead. The node controller calls one after the other so when it
	// is itself cut off: until it is seen how many there are. Its times are in seconds.
	silenceHolds = 2 * time.Second
	// cutOffPercent: if more of the nodes than this are silent at once, it is not
	// they that are dead. It is the node controller's own measure
	// (--unhealthy-zone-threshold) for when not to evict pods.
	cutOffPercent = 55
)

// nodes are the Nodes that exist, and the pods on each, whether it exists or not.
type nodes struct {
	byName map[string]node
	pods   map[string]map[*podEntry]struct{}
	// silent is how many of byName are.
	silent int
	// failed are the nodes that are dead by other evidence than the node
	// controller's, with the reason. They need not be in byName.
	failed map[string]string
	topology
}

type node struct {
	zone string
	// share is what it adds to the zones' CPUs.
	share share
	// unwell: its kubelet says so itself.
	unwell bool
	// silentSince is when the node controller gave up hearing from its kubelet;
	// zero if it has not.
	silentSince time.Time
}

func (n node) silent() bool { return !n.silentSince.IsZero() }

// read reads a Node.
func read(o *corev1.Node, now time.Time) node {
	n := node{zone: o.Labels[corev1.LabelTopologyZone], share: shareOf(o)}
	ready := nodeReady(o)
	switch {
	case ready == nil:
	case ready.Status == corev1.ConditionFalse:
		n.unwell = true
	case ready.Status == corev1.ConditionUnknown:
		// Another machine's clock: it may be ahead, and may say nothing.
		if n.silentSince = ready.LastTransitionTime.Time; n.silentSince.IsZero() || n.silentSince.After(now) {
			n.silentSince = now
		}
	}
	return n
}

func nodeReady(o *corev1.Node) *corev1.NodeCondition {
	for i := range o.Status.Conditions {
		if o.Status.Conditions[i].Type == corev1.NodeReady {
			return &o.Status.Conditions[i]
		}
	}
	return nil
}

// dead says whether a node is taken to be dead.
func (ns *nodes) dead(n node, now time.Time) bool {
	return n.unwell || n.silent() && now.Sub(n.silentSince) >= silenceHolds && !ns.cutOff()
}

// cutOff says whether so many nodes are silent that it is the control plane that
// does not hear them.
func (ns *nodes) cutOff() bool { return ns.silent*100 > cutOffPercent*len(ns.byName) }

func (ns *nodes) put(p *podEntry) {
	name := p.pod.Spec.NodeName
	if name == "" {
		return
	}
	if ns.pods[name] == nil {
		ns.pods[name] = map[*podEntry]struct{}{}
	}
	ns.pods[name][p] = struct{}{}
}

func (ns *nodes) take(p *podEntry) {
	name := p.pod.Spec.NodeName
	delete(ns.pods[name], p)
	if len(ns.pods[name]) == 0 {
		delete(ns.pods, name)
	}
}

// set replaces what is known of a node; nil forgets it.
func (ns *nodes) set(name string, n *node) {
	if ns.byName[name].silent() {
		ns.silent--
	}
	ns.topology.add(ns.byName[name].share, -1)
	if n == nil {
		delete(ns.byName, name)
		return
	}
	if n.silent() {
		ns.silent++
	}
	ns.topology.add(n.share, 1)
	ns.byName[name] = *n
}

// setNode takes in a node and returns the Services whose endpoints that changes:
// those of its pods, if it is new or has moved to another zone, those of pods
// whose mark now holds or no longer does, and those that want hints by zone, if
// the zones have other CPUs than before.
func (x *index) setNode(o *corev1.Node, now time.Time) affected {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := read(o, now)
	was, known := x.nodes.byName[o.Name]
	cutOff, zoneCPU := x.nodes.cutOff(), x.nodes.zoneCPU()
	x.nodes.set(o.Name, &n)
	touched := map[*serviceEntry]struct{}{}
	x.hintedByZone(zoneCPU, touched)
	if !known || was.zone != n.zone {
		x.nodes.services(o.Name, touched, func(*podEntry) bool { return true })
	}
	fell := was.silent() != n.silent() || was.unwell != n.unwell
	if fell {
		x.nodes.services(o.Name, touched, isMarked)
	}
	x.markedEverywhere(cutOff, touched)
	return x.nodes.inTime(affected{keys: planAnew(touched), removes: fell})
}

// inTime has a change that may be about silent nodes planned again when all that
// are silent now are taken to be dead.
func (ns *nodes) inTime(a affected) affected {
	if ns.silent > 0 {
		a.again = silenceHolds
	}
	return a
}

// deleteNode forgets a node. Its pods' Services are not planned again for that:
// a Node that is deleted while its pods run is as a rule about to come back, and
// of those that do not, the pods are deleted too.
func (x *index) deleteNode(name string) affected {
	x.mu.Lock()
	defer x.mu.Unlock()
	cutOff, zoneCPU := x.nodes.cutOff(), x.nodes.zoneCPU()
	x.nodes.set(name, nil)
	touched := map[*serviceEntry]struct{}{}
	x.hintedByZone(zoneCPU, touched)
	x.markedEverywhere(cutOff, touched)
	return x.nodes.inTime(affected{keys: planAnew(touched), removes: true})
}

// markedEverywhere adds the Services of all pods that are marked, if whether
// the control plane is cut off is another than before.
func (x *index) markedEverywhere(was bool, to map[*serviceEntry]struct{}) {
	if x.nodes.cutOff() == was {
		return
	}
	for name := range x.nodes.pods {
		x.nodes.services(name, to, isMarked)
	}
}

// setFailed takes in which nodes are dead by other evidence than the node
// controller's, which is faster than that, and returns the Services of the pods on
// those that died, and on those that are back.
func (x *index) setFailed(failed map[string]string) (died, back affected) {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.nodes.failed
	x.nodes.failed = failed
	return affected{keys: x.nodes.servicesIn(failed, was), removes: true}, affected{keys: x.nodes.servicesIn(was, failed)}
}

// servicesIn returns the Services of all pods on nodes that are in one and not in
// the other.
func (ns *nodes) servicesIn(these, others map[string]string) []key {
	touched := map[*serviceEntry]struct{}{}
	for name := range these {
		if _, both := others[name]; !both {
			ns.services(name, touched, func(*podEntry) bool { return true })
		}
	}
	return planAnew(touched)
}

// services adds those of the pods on a node that which wants.
func (ns *nodes) services(name string, to map[*serviceEntry]struct{}, which func(*podEntry) bool) {
	for p := range ns.pods[name] {
		if which(p) {
			maps.Copy(to, p.services)
		}
	}
}

// isMarked: what a pod that waits gets depends on its node as well.
func isMarked(p *podEntry) bool { return verdict.Marked(p.pod) || verdict.Waits(p.pod) }
