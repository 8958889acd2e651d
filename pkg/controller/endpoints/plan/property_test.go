package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestRandomLivesOfAService leads a Service and its pods through random changes,
// with other people's slices about, and checks after each that what is published
// is what a naive reading of the rules gives, that planning again writes nothing,
// that a plan does not depend on the order of its input, and that no address is
// missing at any moment between two writes.
func TestRandomLivesOfAService(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			opt := Options{Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 1 + rng.IntN(5)}
			w := newWorld(randomService(rng)).nodes(map[string]string{"node-1": "a", "node-2": ""})
			theirs := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}}}
			w.Slices = []*discoveryv1.EndpointSlice{theirs}
			for range 40 {
				w.change(rng)
				w.shuffle(rng)
				one := Make(w.input(), opt)
				w.shuffle(rng)
				if other := Make(w.input(), opt); describe(one) != describe(other) {
					t.Fatalf("two orders of one input give two plans:\n%s", cmp.Diff(describe(one), describe(other)))
				}
				w.syncWatched(t, opt)
				if diff := cmp.Diff(w.oracle(), w.published()); diff != "" {
					t.Fatalf("slices (-oracle +got):\n%s", diff)
				}
				if diff := cmp.Diff(w.endpointsOracle(), w.publishedEndpoints()); diff != "" {
					t.Fatalf("endpoints (-oracle +got):\n%s", diff)
				}
				w.checkPacking(t, opt)
				if !slices.Contains(w.Slices, theirs) {
					t.Fatal("somebody else's slice was touched")
				}
			}
		})
	}
}

func describe(v any) string {
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	return string(out)
}

// syncWatched is sync, and checks that every address that was ready and still
// is, is ready in some slice after each single write.
func (w *world) syncWatched(t *testing.T, opt Options) {
	t.Helper()
	p := Make(w.input(), opt)
	before := w.readyAddresses()
	should := map[string]bool{}
	for _, line := range w.oracle() {
		if f := strings.Fields(line); f[2] == "ready" {
			should[f[1]] = true
		}
	}
	for _, write := range p.Writes {
		w.applyOne(t, write)
		now := w.readyAddresses()
		for a := range before {
			if should[a] && !now[a] {
				t.Fatalf("address %s is nowhere after the %s of %s in this plan:\n%s", a, write.Verb, write.Object.GetName(), describe(p.Writes))
			}
			if write.Phase > Removals && !should[a] && now[a] {
				t.Fatalf("address %s is still ready after %s in phase %d", a, write.Verb, write.Phase)
			}
		}
	}
	w.sync(t, opt) // writes nothing any more
}

func (w *world) readyAddresses() map[string]bool {
	out := map[string]bool{}
	for _, s := range w.ours() {
		for i := range s.Endpoints {
			if isReady(&s.Endpoints[i]) {
				out[s.Endpoints[i].Addresses[0]] = true
			}
		}
	}
	return out
}

func randomService(rng *rand.Rand) *corev1.Service {
	return service(func(s *corev1.Service) {
		s.Spec.PublishNotReadyAddresses = rng.IntN(4) == 0
		switch rng.IntN(4) {
		case 0:
			s.Spec.ClusterIP = corev1.ClusterIPNone
			if rng.IntN(2) == 0 {
				s.Spec.Ports = nil
			}
		case 1:
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		case 2:
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "named", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromString("dns")})
		}
	})
}

// change changes a thing or two, at random.
func (w *world) change(rng *rand.Rand) {
	for range 1 + rng.IntN(4) {
		switch rng.IntN(12) {
		case 0:
			w.Zones = map[string]string{"node-1": []string{"a", "b"}[rng.IntN(2)], "node-2": "c"}
		case 1:
			delete(w.Zones, "node-2")
		case 2:
			w.changeService(rng)
		case 3, 4, 5:
			if len(w.all) > 0 {
				i := rng.IntN(len(w.all))
				w.all = slices.Delete(slices.Clone(w.all), i, i+1)
			}
		case 6, 7, 8:
			w.all = append(w.all, randomPod(rng, rng.IntN(30)))
			w.all = slices.CompactFunc(slices.SortedFunc(slices.Values(w.all), func(a, b *corev1.Pod) int {
				return strings.Compare(a.Name, b.Name)
			}), func(a, b *corev1.Pod) bool { return a.Name == b.Name })
		default:
			if len(w.all) > 0 {
				i := rng.IntN(len(w.all))
				w.all[i] = w.all[i].DeepCopy()
				randomState(rng, w.all[i])
			}
		}
	}
}

func (w *world) changeService(rng *rand.Rand) {
	svc := w.Service.DeepCopy()
	switch rng.IntN(7) {
	case 0:
		svc.Spec.PublishNotReadyAddresses = !svc.Spec.PublishNotReadyAddresses
	case 1:
		svc.Spec.Selector = nil
	case 2:
		svc.Spec.Type = corev1.ServiceTypeExternalName
	case 3:
		svc.Spec.Type, svc.Spec.Selector = corev1.ServiceTypeClusterIP, map[string]string{"app": "a"}
	case 4:
		svc.Labels = map[string]string{"team": []string{"blue", "red"}[rng.IntN(2)]}
	case 5:
		svc.UID += "x" // deleted and made again
	case 6:
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].TargetPort = []intstr.IntOrString{intstr.FromInt32(8081), intstr.FromInt32(8080), intstr.FromString("dns")}[rng.IntN(3)]
		}
	}
	w.Service = svc
}

func randomPod(rng *rand.Rand, n int) *corev1.Pod {
	return pod(n, func(p *corev1.Pod) {
		p.Spec.NodeName = []string{"node-1", "node-2"}[rng.IntN(2)]
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("fd00::%x", n+1)})
		for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			if rng.IntN(3) > 0 {
				p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports,
					corev1.ContainerPort{Name: "dns", Protocol: proto, ContainerPort: int32(1000 + rng.IntN(2))})
			}
		}
		randomState(rng, p)
	})
}

func randomState(rng *rand.Rand, p *corev1.Pod) {
	switch rng.IntN(6) {
	case 0:
		notReady(p)
	case 1:
		terminating(p)
	case 2:
		p.Status.Phase = corev1.PodFailed
	case 3:
		p.Labels = map[string]string{"app": "b"}
	case 4:
		p.Labels = map[string]string{"app": "a"}
		p.Status.Phase = corev1.PodRunning
	default:
		setReady(p, true, epoch)
	}
}

func (w *world) ours() []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(slices.Clone(w.Slices), func(s *discoveryv1.EndpointSlice) bool { return s.Name == "theirs" })
}

// oracle says line by line what the slices should publish, straight from the rules.
func (w *world) oracle() []string {
	out := []string{}
	if !SelectsPods(w.Service) {
		return out
	}
	svc := w.Service
	for _, family := range svc.Spec.IPFamilies {
		for _, p := range w.input().Pods {
			zone, known := w.Zones[p.Spec.NodeName]
			finished := p.Status.Phase == corev1.PodFailed
			if finished || (!known && !svc.Spec.PublishNotReadyAddresses) {
				continue
			}
			serving := p.Status.Conditions[0].Status == corev1.ConditionTrue
			state := "notready"
			if svc.Spec.PublishNotReadyAddresses || (serving && p.DeletionTimestamp == nil) {
				state = "ready"
			}
			ip := p.Status.PodIPs[0].IP
			if family == corev1.IPv6Protocol {
				ip = p.Status.PodIPs[1].IP
			}
			out = append(out, fmt.Sprintf("%s %s %s serving=%v terminating=%v zone=%s node=%s pod=%s ports=%s",
				family, ip, state, serving, p.DeletionTimestamp != nil, zone, p.Spec.NodeName, p.UID, w.portsOf(p)))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) portsOf(p *corev1.Pod) string {
	var out []string
	for _, sp := range w.Service.Spec.Ports {
		if sp.TargetPort.Type == intstr.Int {
			out = append(out, fmt.Sprintf("%s/%s:%d", sp.Name, sp.Protocol, sp.TargetPort.IntVal))
			continue
		}
		for _, cp := range p.Spec.Containers[0].Ports {
			if cp.Name == sp.TargetPort.StrVal && cp.Protocol == sp.Protocol {
				out = append(out, fmt.Sprintf("%s/%s:%d", sp.Name, sp.Protocol, cp.ContainerPort))
				break
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// published says in the same words what the slices do publish.
func (w *world) published() []string {
	out := []string{}
	for _, s := range w.ours() {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s/%s:%d", *p.Name, *p.Protocol, *p.Port))
		}
		slices.Sort(ports)
		for _, e := range s.Endpoints {
			state, zone := "notready", ""
			if *e.Conditions.Ready {
				state = "ready"
			}
			if e.Zone != nil {
				zone = *e.Zone
			}
			out = append(out, fmt.Sprintf("%s %s %s serving=%v terminating=%v zone=%s node=%s pod=%s ports=%s", s.AddressType, e.Addresses[0],
				state, *e.Conditions.Serving, *e.Conditions.Terminating, zone, *e.NodeName, e.TargetRef.UID, strings.Join(ports, ",")))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) checkPacking(t *testing.T, opt Options) {
	t.Helper()
	perFamily := map[discoveryv1.AddressType]int{}
	for _, s := range w.ours() {
		perFamily[s.AddressType]++
		if len(s.Endpoints) > opt.MaxEndpointsPerSlice {
			t.Fatalf("slice %s has %d endpoints, more than %d", s.Name, len(s.Endpoints), opt.MaxEndpointsPerSlice)
		}
		if s.Labels["team"] != w.Service.Labels["team"] || !isOwnedBy(s, w.Service) {
			t.Fatalf("slice %s has labels %v and owners %v", s.Name, s.Labels, s.OwnerReferences)
		}
	}
	if !SelectsPods(w.Service) {
		return
	}
	for _, family := range w.Service.Spec.IPFamilies {
		if perFamily[discoveryv1.AddressType(family)] == 0 {
			t.Fatalf("no slice for %s, not even an empty one", family)
		}
	}
	for _, s := range w.ours() {
		if len(s.Endpoints) == 0 && perFamily[s.AddressType] > 1 {
			t.Fatalf("slice %s is empty beside others", s.Name)
		}
	}
}

// endpointsOracle says line by line what the Endpoints should have.
func (w *world) endpointsOracle() []string {
	out := []string{}
	if !SelectsPods(w.Service) {
		return out
	}
	svc := w.Service
	for _, p := range w.input().Pods {
		if p.Status.Phase == corev1.PodFailed || (p.DeletionTimestamp != nil && !svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		state := "notready"
		if svc.Spec.PublishNotReadyAddresses || p.Status.Conditions[0].Status == corev1.ConditionTrue {
			state = "ready"
		}
		ip := p.Status.PodIPs[0].IP
		if svc.Spec.IPFamilies[0] == corev1.IPv6Protocol {
			ip = p.Status.PodIPs[1].IP
		}
		if len(svc.Spec.Ports) == 0 {
			out = append(out, fmt.Sprintf("%s %s %s", ip, state, p.UID))
		}
		if ports := w.portsOf(p); ports != "" {
			for port := range strings.SplitSeq(ports, ",") {
				out = append(out, fmt.Sprintf("%s %s %s %s", ip, state, p.UID, port))
			}
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) publishedEndpoints() []string {
	out := []string{}
	if w.Endpoints == nil {
		return out
	}
	line := func(state string, ports []corev1.EndpointPort, addresses []corev1.EndpointAddress) {
		for _, a := range addresses {
			if len(ports) == 0 {
				out = append(out, fmt.Sprintf("%s %s %s", a.IP, state, a.TargetRef.UID))
			}
			for _, p := range ports {
				out = append(out, fmt.Sprintf("%s %s %s %s/%s:%d", a.IP, state, a.TargetRef.UID, p.Name, p.Protocol, p.Port))
			}
		}
	}
	for _, s := range w.Endpoints.Subsets {
		line("ready", s.Ports, s.Addresses)
		line("notready", s.Ports, s.NotReadyAddresses)
	}
	slices.Sort(out)
	return out
}
