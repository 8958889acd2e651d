package endpoints

import (
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// key names a Service.
type key = types.NamespacedName

// index knows which pods each Service selects, so that the change of a pod costs
// what its labels cost, not what the namespace has of Services, and a plan what
// its own pods cost. It holds the informers' objects, not copies, and is safe
// for concurrent use.
type index struct {
	mu         sync.Mutex
	services   map[key]*serviceEntry
	namespaces map[string]*namespaceEntry
	nodes      nodes
	// byZone has the Services that want hints by zone: they depend on all nodes.
	byZone map[*serviceEntry]struct{}
	// tellsPods is plan.Input's; it is set before all else.
	tellsPods bool
}

type serviceEntry struct {
	key     key
	service *corev1.Service
	// pair is one of the labels that the selector wants.
	pair pair
	pods map[*podEntry]struct{}
	// since has when pods first changed since the last plan; nil if none did.
	since map[types.UID]time.Time
	// flipped are the pods of which nothing but their readiness has changed since
	// the last plan. If anything else has, other is true.
	flipped map[*podEntry]struct{}
	other   bool
}

type podEntry struct {
	pod      *corev1.Pod
	services map[*serviceEntry]struct{}
}

// pair is a label: its key and value.
type pair struct{ name, value string }

type namespaceEntry struct {
	pods map[string]*podEntry
	// byPair has each Service that selects pods once, under its pair: a pod that
	// has no such label need not be asked further.
	byPair map[pair]map[*serviceEntry]struct{}
}

func newIndex() *index {
	return &index{
		services:   map[key]*serviceEntry{},
		namespaces: map[string]*namespaceEntry{},
		nodes:      nodes{byName: map[string]node{}, pods: map[string]map[*podEntry]struct{}{}, topology: topology{cpu: map[string]int64{}}},
		byZone:     map[*serviceEntry]struct{}{},
	}
}

func (x *index) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.services)
}

func (x *index) has(k key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.services[k] != nil
}

// input returns what the index knows at a time for a plan, or false if there is
// no such Service. It forgets since when pods have changed: if the plan cannot be
// carried out, give that back to unsynced.
func (x *index) input(k key, now time.Time) (plan.Input, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.services[k]
	if s == nil {
		return plan.Input{}, false
	}
	in := x.inputOf(s, s.pods, now)
	s.forget()
	return in, true
}

// look is input without forgetting anything.
func (x *index) look(k key, now time.Time) (plan.Input, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.services[k]
	if s == nil {
		return plan.Input{}, false
	}
	return x.inputOf(s, s.pods, now), true
}

// flips is input with only those pods that have flipped since the last one. It
// returns false if anything else has changed, and forgets nothing then.
func (x *index) flips(k key, now time.Time) (plan.Input, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.services[k]
	if s == nil || s.other || x.nodes.silent > 0 || len(x.nodes.failed) > 0 {
		return plan.Input{}, false
	}
	in := x.inputOf(s, s.flipped, now)
	s.forget()
	return in, true
}

func (s *serviceEntry) forget() { s.since, s.flipped, s.other = nil, nil, false }

func (x *index) inputOf(s *serviceEntry, pods map[*podEntry]struct{}, now time.Time) plan.Input {
	in := plan.Input{
		Service: s.service, Pods: make([]*corev1.Pod, 0, len(pods)), Since: s.since,
		Zones: map[string]string{}, Dead: map[string]bool{}, Failed: map[string]string{}, TellsPods: x.tellsPods,
	}
	for p := range pods {
		in.Pods = append(in.Pods, p.pod)
		name := p.pod.Spec.NodeName
		if n, exists := x.nodes.byName[name]; exists {
			in.Zones[name] = n.zone
			why, failed := x.nodes.failed[name]
			if failed || x.nodes.dead(n, now) {
				in.Dead[name] = true
			}
			if failed {
				in.Failed[name] = why
			}
		}
	}
	if plan.WantsZones(s.service) {
		in.ZoneCPU = x.nodes.zoneCPU()
	}
	return in
}

func (x *index) namespace(name string) *namespaceEntry {
	ns := x.namespaces[name]
	if ns == nil {
		ns = &namespaceEntry{pods: map[string]*podEntry{}, byPair: map[pair]map[*serviceEntry]struct{}{}}
		x.namespaces[name] = ns
	}
	return ns
}

// tidy forgets a namespace in which nothing is left.
func (x *index) tidy(name string) {
	if ns := x.namespaces[name]; ns != nil && len(ns.pods) == 0 && len(ns.byPair) == 0 {
		delete(x.namespaces, name)
	}
}

func (x *index) setService(svc *corev1.Service) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := key{Namespace: svc.Namespace, Name: svc.Name}
	s := x.services[k]
	if s == nil {
		s = &serviceEntry{key: k, service: svc, other: true}
		x.services[k] = s
		x.noteWish(s, svc)
		x.selectPods(s)
		return
	}
	was := s.service
	s.other = true
	x.noteWish(s, svc)
	if plan.SelectsPods(was) == plan.SelectsPods(svc) && maps.Equal(was.Spec.Selector, svc.Spec.Selector) {
		s.service = svc
		return
	}
	x.releasePods(s)
	s.service = svc
	x.selectPods(s)
}

func (x *index) deleteService(k key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.services[k]; s != nil {
		x.releasePods(s)
		delete(x.services, k)
		delete(x.byZone, s)
		x.tidy(k.Namespace)
	}
}

func (x *index) selectPods(s *serviceEntry) {
	s.pods = map[*podEntry]struct{}{}
	if !plan.SelectsPods(s.service) {
		return
	}
	ns := x.namespace(s.key.Namespace)
	s.pair = ns.rarest(s.service.Spec.Selector)
	if ns.byPair[s.pair] == nil {
		ns.byPair[s.pair] = map[*serviceEntry]struct{}{}
	}
	ns.byPair[s.pair][s] = struct{}{}
	for _, p := range ns.pods {
		if selects(s.service.Spec.Selector, p.pod.Labels) {
			join(s, p)
		}
	}
}

func (x *index) releasePods(s *serviceEntry) {
	if !plan.SelectsPods(s.service) {
		return
	}
	for p := range s.pods {
		delete(p.services, s)
	}
	ns := x.namespace(s.key.Namespace)
	delete(ns.byPair[s.pair], s)
	if len(ns.byPair[s.pair]) == 0 {
		delete(ns.byPair, s.pair)
	}
}

// rarest returns the label of the selector that the fewest Services are found
// under: many may want "tier=web", few "app=cart".
func (ns *namespaceEntry) rarest(selector map[string]string) pair {
	best, fewest := pair{}, -1
	for name, value := range selector {
		p := pair{name, value}
		n := len(ns.byPair[p])
		if fewest < 0 || n < fewest || (n == fewest && name < best.name) {
			best, fewest = p, n
		}
	}
	return best
}

func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if have, ok := labels[name]; !ok || have != value {
			return false
		}
	}
	return true
}

func join(s *serviceEntry, p *podEntry) {
	s.other = true
	s.pods[p] = struct{}{}
	p.services[s] = struct{}{}
}

func (s *serviceEntry) leave(p *podEntry) {
	s.other = true
	delete(s.pods, p)
	delete(s.flipped, p)
}

// flip notes that a pod has changed, and whether only by a flip.
func (s *serviceEntry) flip(p *podEntry, only bool) {
	if s.other = s.other || !only; s.other {
		return
	}
	if s.flipped == nil {
		s.flipped = map[*podEntry]struct{}{}
	}
	s.flipped[p] = struct{}{}
}

// affected are the Services to plan again, and whether the change takes traffic
// away from something.
type affected struct {
	keys    []key
	removes bool
	// again is when to plan once more, as the passing of time is a change, too; 0
	// if it is not.
	again time.Duration
}

// setPod takes in a new or changed pod.
func (x *index) setPod(pod *corev1.Pod) affected {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.replacePod(pod)
	x.noteChange(pod, a.keys)
	if verdict.Marked(pod) {
		a = x.nodes.inTime(a)
	}
	return a
}

func (x *index) replacePod(pod *corev1.Pod) affected {
	ns := x.namespace(pod.Namespace)
	p := ns.pods[pod.Name]
	if p != nil && p.pod.UID != pod.UID {
		// Deleted and made again, and the watch has seen only the second.
		gone := x.removePod(ns, p)
		come := x.addPod(x.namespace(pod.Namespace), pod)
		return affected{keys: append(gone.keys, come.keys...), removes: true}
	}
	if p == nil {
		return x.addPod(ns, pod)
	}
	return x.updatePod(ns, p, pod)
}

func (x *index) addPod(ns *namespaceEntry, pod *corev1.Pod) affected {
	p := &podEntry{pod: pod, services: map[*serviceEntry]struct{}{}}
	ns.pods[pod.Name] = p
	x.nodes.put(p)
	for _, s := range ns.selecting(pod.Labels) {
		join(s, p)
	}
	return affected{keys: planAnew(p.services)}
}

func (x *index) updatePod(ns *namespaceEntry, p *podEntry, pod *corev1.Pod) affected {
	was := p.pod
	if was.Spec.NodeName != pod.Spec.NodeName {
		x.nodes.take(p)
		p.pod = pod
		x.nodes.put(p)
	}
	p.pod = pod
	before := p.services
	if !maps.Equal(was.Labels, pod.Labels) {
		for s := range p.services {
			s.leave(p)
		}
		p.services = map[*serviceEntry]struct{}{}
		for _, s := range ns.selecting(pod.Labels) {
			join(s, p)
		}
	}
	out := affected{removes: losesTraffic(was, pod)}
	changed, only := podChanged(was, pod), plan.OnlyFlipped(was, pod)
	for s := range before {
		if _, stays := p.services[s]; !stays {
			out.removes = true
			out.keys = append(out.keys, s.key)
		} else if changed {
			s.flip(p, only)
			out.keys = append(out.keys, s.key)
		}
	}
	for s := range p.services {
		if _, was := before[s]; !was {
			out.keys = append(out.keys, s.key)
		}
	}
	return out
}

func (x *index) deletePod(k key) affected {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespaces[k.Namespace]
	if ns == nil || ns.pods[k.Name] == nil {
		return affected{}
	}
	return x.removePod(ns, ns.pods[k.Name])
}

func (x *index) removePod(ns *namespaceEntry, p *podEntry) affected {
	delete(ns.pods, p.pod.Name)
	x.nodes.take(p)
	for s := range p.services {
		s.leave(p)
	}
	x.tidy(p.pod.Namespace)
	return affected{keys: planAnew(p.services), removes: true}
}

// selecting returns the Services that select a pod with these labels.
func (ns *namespaceEntry) selecting(labels map[string]string) []*serviceEntry {
	var out []*serviceEntry
	for name, value := range labels {
		for s := range ns.byPair[pair{name, value}] {
			if selects(s.service.Spec.Selector, labels) {
				out = append(out, s)
			}
		}
	}
	return out
}

// planAnew returns the keys of Services of which more has changed than what flips
// are.
func planAnew(services map[*serviceEntry]struct{}) []key {
	out := make([]key, 0, len(services))
	for s := range services {
		s.other = true
		out = append(out, s.key)
	}
	return out
}

// podChanged says whether an endpoint of the pod may have to change. Unlike the
// stock controllers it looks at the phase: a pod that fails while it is not
// ready anyway must leave a Service that publishes what is not ready; and it
// compares the deletion time by value, so that a pod which takes long to die
// does not cause a plan with every update of its status.
func podChanged(was, is *corev1.Pod) bool {
	return verdict.IsFinished(was) != verdict.IsFinished(is) ||
		verdict.IsReady(was) != verdict.IsReady(is) || verdict.Marked(was) != verdict.Marked(is) ||
		verdict.Waits(was) != verdict.Waits(is) ||
		!was.DeletionTimestamp.Equal(is.DeletionTimestamp) ||
		was.Spec.NodeName != is.Spec.NodeName ||
		was.Spec.Hostname != is.Spec.Hostname || was.Spec.Subdomain != is.Spec.Subdomain ||
		!sameAddresses(was, is)
}

func sameAddresses(a, b *corev1.Pod) bool {
	if a.Status.PodIP != b.Status.PodIP || len(a.Status.PodIPs) != len(b.Status.PodIPs) {
		return false
	}
	for i := range a.Status.PodIPs {
		if a.Status.PodIPs[i] != b.Status.PodIPs[i] {
			return false
		}
	}
	return true
}

// losesTraffic says whether the pod should get less than before.
func losesTraffic(was, is *corev1.Pod) bool {
	gets := func(p *corev1.Pod) bool {
		return (verdict.IsReady(p) || verdict.Marked(p) || verdict.Waits(p)) && p.DeletionTimestamp == nil && !verdict.IsFinished(p)
	}
	return (gets(was) && !gets(is)) || (!verdict.IsFinished(was) && verdict.IsFinished(is)) ||
		was.Status.PodIP != "" && !sameAddresses(was, is)
}
