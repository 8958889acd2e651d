package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// mirrorWorld is a name's surroundings, to which plans can be applied as the API
// server would apply them.
type mirrorWorld struct {
	*testing.T
	MirrorInput
	max, made int
}

func custom(change ...func(*corev1.Endpoints)) *corev1.Endpoints {
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "svc", Namespace: "ns", UID: "e-uid", ResourceVersion: "1"},
		Subsets:    []corev1.EndpointSubset{subset(80, "192.0.2.1", "192.0.2.2")},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func subset(port int32, ips ...string) corev1.EndpointSubset {
	s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Port: port, Protocol: corev1.ProtocolTCP}}}
	for _, ip := range ips {
		s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
	}
	return s
}

func noSelector(s *corev1.Service) { s.Spec.Selector = nil }

func newMirrorWorld(t *testing.T) *mirrorWorld {
	return &mirrorWorld{T: t, MirrorInput: MirrorInput{Service: service(noSelector), Endpoints: custom()}, max: 1000}
}

// sync plans and applies, and fails the test if planning again writes anything,
// or if planning changed its input. It returns the writes in words.
func (w *mirrorWorld) sync() []string {
	w.Helper()
	before := describe(w.MirrorInput)
	m := MakeMirror(w.MirrorInput, w.max)
	if after := describe(w.MirrorInput); before != after {
		w.Fatalf("MakeMirror changed its input:\n%s", cmp.Diff(before, after))
	}
	out := []string{}
	for i, write := range m.Writes {
		if i > 0 && write.Phase < m.Writes[i-1].Phase {
			w.Fatalf("write %d of phase %d comes after phase %d", i, write.Phase, m.Writes[i-1].Phase)
		}
		w.apply(write)
		out = append(out, strings.TrimSpace(string(write.Verb)+" "+write.Object.GetName()))
	}
	if again := MakeMirror(w.MirrorInput, w.max); len(again.Writes) != 0 {
		w.Fatalf("planning again after applying writes %d objects, first: %s", len(again.Writes), describe(again.Writes[0]))
	}
	return out
}

// apply holds the preconditions of a write against what there is. The version of
// an object that the same plan has written already is the shell's business.
func (w *mirrorWorld) apply(write Write) {
	w.Helper()
	s := write.Object.(*discoveryv1.EndpointSlice).DeepCopy()
	i := slices.IndexFunc(w.Slices, func(o *discoveryv1.EndpointSlice) bool { return o.Name == s.Name })
	w.made++
	switch {
	case write.Verb == Create && s.Name == "":
		s.Name, s.UID = fmt.Sprint(s.GenerateName, w.made), types.UID(fmt.Sprint("made-", w.made))
		w.Slices = append(slices.Clone(w.Slices), s)
		i = len(w.Slices) - 1
	case i < 0 || s.UID != w.Slices[i].UID || s.ResourceVersion == "" || s.AddressType != w.Slices[i].AddressType:
		w.Fatalf("cannot %s %s", write.Verb, describe(s))
	case write.Verb == Delete:
		w.Slices = slices.Delete(slices.Clone(w.Slices), i, i+1)
		return
	}
	checkSlice(w.T, s)
	s.ResourceVersion = strconv.Itoa(1000 + w.made)
	w.Slices = slices.Clone(w.Slices)
	w.Slices[i] = s
}

// published has a line for each port of each endpoint in a mirroring slice.
func (w *mirrorWorld) published() []string {
	w.Helper()
	out := []string{}
	for _, s := range w.Slices {
		if !IsMirror(s) || s.DeletionTimestamp != nil {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			state := "notready"
			if *e.Conditions.Ready {
				state = "ready"
			}
			line := fmt.Sprintf("%s %s %s", s.AddressType, e.Addresses[0], state)
			for _, p := range s.Ports {
				out = append(out, fmt.Sprintf("%s %s/%s:%d", line, *p.Name, *p.Protocol, *p.Port))
			}
			if len(s.Ports) == 0 {
				out = append(out, line)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestMirrorTransitions: each case starts with a Service without selector whose
// Endpoints with two addresses is mirrored by the slice svc-1.
func TestMirrorTransitions(t *testing.T) {
	kept := []string{"IPv4 192.0.2.1 ready /TCP:80", "IPv4 192.0.2.2 ready /TCP:80"}
	for _, tt := range []struct {
		name   string
		change func(w *mirrorWorld)
		writes []string
		want   []string
	}{
		{"nothing", func(*mirrorWorld) {}, nil, kept},
		{"a new version of the same", func(w *mirrorWorld) { w.Endpoints.ResourceVersion = "2" }, nil, kept},
		{"the trigger time and kubectl's copy", func(w *mirrorWorld) {
			w.Endpoints.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "x", corev1.LastAppliedConfigAnnotation: "y"}
		}, nil, kept},
		{"the same, split otherwise", func(w *mirrorWorld) {
			w.Endpoints.Subsets = []corev1.EndpointSubset{subset(80, "192.0.2.2"), subset(80, "192.0.2.1")}
		}, nil, kept},
		{"Service gets a selector", func(w *mirrorWorld) { w.Service.Spec.Selector = map[string]string{"a": "b"} }, []string{"delete svc-1"}, nil},
		{"an empty selector is none", func(w *mirrorWorld) { w.Service.Spec.Selector = map[string]string{} }, nil, kept},
		{"Service becomes an ExternalName", func(w *mirrorWorld) { w.Service.Spec.Type = corev1.ServiceTypeExternalName }, []string{"delete svc-1"}, nil},
		{"Service deleted", func(w *mirrorWorld) { w.Service = nil }, []string{"delete svc-1"}, nil},
		{"Endpoints deleted", func(w *mirrorWorld) { w.Endpoints = nil }, []string{"delete svc-1"}, nil},
		{"Endpoints being deleted", func(w *mirrorWorld) {
			w.Endpoints.DeletionTimestamp = new(metav1.NewTime(epoch))
			w.Endpoints.Subsets = append(w.Endpoints.Subsets, subset(443, "2001:db8::1"))
		}, nil, kept},
		{"Endpoints deleted and made again", func(w *mirrorWorld) { w.Endpoints.UID = "other" }, []string{"update svc-1"}, kept},
		{"no addresses any more", func(w *mirrorWorld) { w.Endpoints.Subsets = nil }, []string{"delete svc-1"}, nil},
		{"skip-mirror set", func(w *mirrorWorld) { w.Endpoints.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"} }, []string{"delete svc-1"}, nil},
		{"skip-mirror set to something else", func(w *mirrorWorld) { w.Endpoints.Labels = map[string]string{discoveryv1.LabelSkipMirror: "yes"} }, []string{"update svc-1"}, kept},
		{"becomes a lock", func(w *mirrorWorld) { w.Endpoints.Annotations = map[string]string{lockAnnotation: "{}"} }, []string{"delete svc-1"}, nil},
		{"what the controllers left behind", func(w *mirrorWorld) { w.Endpoints = leftBehind() }, []string{"delete svc-1"}, nil},
		{"what was left behind, and then edited", func(w *mirrorWorld) {
			w.Endpoints = leftBehind()
			w.Endpoints.Subsets[0].Addresses[0].TargetRef = nil
		}, []string{"update svc-1"}, []string{"IPv4 192.0.2.1 ready /TCP:80"}},
		{"an address comes, one goes", func(w *mirrorWorld) {
			w.Endpoints.Subsets = []corev1.EndpointSubset{subset(80, "192.0.2.2", "192.0.2.3")}
		},
			[]string{"update svc-1"}, []string{"IPv4 192.0.2.2 ready /TCP:80", "IPv4 192.0.2.3 ready /TCP:80"}},
		{"an address is not ready", func(w *mirrorWorld) {
			s := &w.Endpoints.Subsets[0]
			s.NotReadyAddresses, s.Addresses = s.Addresses[1:], s.Addresses[:1]
		}, []string{"update svc-1"}, []string{"IPv4 192.0.2.1 ready /TCP:80", "IPv4 192.0.2.2 notready /TCP:80"}},
		{"ready and not is not", func(w *mirrorWorld) { w.Endpoints.Subsets[0].NotReadyAddresses = w.Endpoints.Subsets[0].Addresses[:1] },
			[]string{"update svc-1"}, []string{"IPv4 192.0.2.1 notready /TCP:80", "IPv4 192.0.2.2 ready /TCP:80"}},
		{"another port", func(w *mirrorWorld) { w.Endpoints.Subsets[0].Ports[0].Port = 81 }, []string{"update svc-1"},
			[]string{"IPv4 192.0.2.1 ready /TCP:81", "IPv4 192.0.2.2 ready /TCP:81"}},
		{"no ports", func(w *mirrorWorld) { w.Endpoints.Subsets[0].Ports = nil }, []string{"update svc-1"}, []string{"IPv4 192.0.2.1 ready", "IPv4 192.0.2.2 ready"}},
		{"another subset", func(w *mirrorWorld) { w.Endpoints.Subsets = append(w.Endpoints.Subsets, subset(443, "192.0.2.9")) }, []string{"create"},
			append(slices.Clone(kept), "IPv4 192.0.2.9 ready /TCP:443")},
		{"another family", func(w *mirrorWorld) {
			w.Endpoints.Subsets[0].Addresses = append(w.Endpoints.Subsets[0].Addresses, corev1.EndpointAddress{IP: "2001:DB8::1"})
		}, []string{"create"}, append(slices.Clone(kept), "IPv6 2001:db8::1 ready /TCP:80")},
		{"only the other family", func(w *mirrorWorld) { w.Endpoints.Subsets = []corev1.EndpointSubset{subset(80, "2001:db8::1")} },
			[]string{"delete svc-1", "create"}, []string{"IPv6 2001:db8::1 ready /TCP:80"}},
		{"labels", func(w *mirrorWorld) { w.Endpoints.Labels = map[string]string{"team": "blue"} }, []string{"update svc-1"}, kept},
		{"reserved labels", func(w *mirrorWorld) {
			w.Endpoints.Labels = map[string]string{discoveryv1.LabelManagedBy: "me", discoveryv1.LabelServiceName: "other"}
		}, nil, kept},
		{"annotations", func(w *mirrorWorld) { w.Endpoints.Annotations = map[string]string{"note": "x"} }, []string{"update svc-1"}, kept},
		{"somebody deletes the slice", func(w *mirrorWorld) { w.Slices = nil }, []string{"create"}, kept},
		{"the slice is being deleted", func(w *mirrorWorld) {
			w.edit(func(s *discoveryv1.EndpointSlice) { s.DeletionTimestamp = new(metav1.NewTime(epoch)) })
		},
			[]string{"create"}, kept},
		{"somebody takes an address out", func(w *mirrorWorld) { w.edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints = s.Endpoints[:1] }) }, []string{"update svc-1"}, kept},
		{"somebody lists an address twice", func(w *mirrorWorld) { w.edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[1] = s.Endpoints[0] }) }, []string{"update svc-1"}, kept},
		{"somebody changes a condition", func(w *mirrorWorld) {
			w.edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Terminating = new(true) })
		}, []string{"update svc-1"}, kept},
		{"somebody sets hints", func(w *mirrorWorld) {
			w.edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Hints = &discoveryv1.EndpointHints{} })
		}, []string{"update svc-1"}, kept},
		{"somebody changes the ports", func(w *mirrorWorld) { w.edit(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(1)) }) }, []string{"update svc-1"}, kept},
		{"somebody adds a label", func(w *mirrorWorld) { w.edit(func(s *discoveryv1.EndpointSlice) { s.Labels["x"] = "y" }) }, []string{"update svc-1"}, kept},
		{"somebody adds an annotation", func(w *mirrorWorld) {
			w.edit(func(s *discoveryv1.EndpointSlice) { s.Annotations = map[string]string{"x": "y"} })
		}, []string{"update svc-1"}, kept},
		{"somebody takes the owner away", func(w *mirrorWorld) { w.edit(func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }) }, []string{"update svc-1"}, kept},
		{"somebody takes the slice", func(w *mirrorWorld) {
			w.edit(func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelManagedBy] = "me" })
		}, []string{"create"}, kept},
		{"somebody copies the slice", func(w *mirrorWorld) {
			s := w.Slices[0].DeepCopy()
			s.Name, s.UID = "svc-0", "copy"
			s.Labels["x"] = "y"
			w.Slices = append(w.Slices, s)
		}, []string{"delete svc-0"}, kept},
		{"the stock controller's", func(w *mirrorWorld) { w.edit(stock) }, nil, kept},
		{"the stock controller's, not ready", func(w *mirrorWorld) {
			s := &w.Endpoints.Subsets[0]
			s.NotReadyAddresses, s.Addresses = s.Addresses, nil
			w.sync()
			w.edit(stock)
		}, []string{"update svc-1"}, []string{"IPv4 192.0.2.1 notready /TCP:80", "IPv4 192.0.2.2 notready /TCP:80"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newMirrorWorld(t)
			theirs := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}}}
			if diff := cmp.Diff([]string{"create"}, w.sync()); diff != "" {
				t.Fatalf("first writes (-want +got):\n%s", diff)
			}
			w.Slices[0].Name = "svc-1"
			tt.change(w)
			w.Slices = append(w.Slices, theirs)
			if diff := cmp.Diff(append([]string{}, tt.writes...), w.sync()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append([]string{}, tt.want...), w.published()); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			if !slices.Contains(w.Slices, theirs) {
				t.Error("somebody else's slice is gone")
			}
		})
	}
}

// TestNothingToMirror: where nothing was mirrored, nothing is written.
func TestNothingToMirror(t *testing.T) {
	for name, change := range map[string]func(w *mirrorWorld){
		"no Service":      func(w *mirrorWorld) { w.Service = nil },
		"no Endpoints":    func(w *mirrorWorld) { w.Endpoints = nil },
		"neither":         func(w *mirrorWorld) { w.Service, w.Endpoints = nil, nil },
		"a selector":      func(w *mirrorWorld) { w.Service.Spec.Selector = map[string]string{"a": "b"} },
		"skip-mirror":     func(w *mirrorWorld) { w.Endpoints.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"} },
		"a lock":          func(w *mirrorWorld) { w.Endpoints.Annotations = map[string]string{lockAnnotation: "{}"} },
		"no subsets":      func(w *mirrorWorld) { w.Endpoints.Subsets = nil },
		"no addresses":    func(w *mirrorWorld) { w.Endpoints.Subsets[0].Addresses = nil },
		"being deleted":   func(w *mirrorWorld) { w.Endpoints.DeletionTimestamp = new(metav1.NewTime(epoch)) },
		"an ExternalName": func(w *mirrorWorld) { w.Service.Spec.Type = corev1.ServiceTypeExternalName },
	} {
		w := newMirrorWorld(t)
		change(w)
		if writes := w.sync(); len(writes) > 0 {
			t.Errorf("%s: %v", name, writes)
		}
	}
}

// edit changes the first slice as somebody else would.
func (w *mirrorWorld) edit(f func(*discoveryv1.EndpointSlice)) {
	s := w.Slices[0].DeepCopy()
	f(s)
	w.Slices[0] = s
}

// stock takes away what the stock controller does not write.
func stock(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].Conditions.Serving, s.Endpoints[i].Conditions.Terminating = nil, nil
	}
	slices.Reverse(s.Endpoints)
}

// leftBehind is what the endpoints controller made when there was a selector.
func leftBehind() *corev1.Endpoints {
	return custom(func(e *corev1.Endpoints) {
		e.Labels = map[string]string{EndpointsManagedBy: EndpointsManager}
		e.Subsets = []corev1.EndpointSubset{subset(80, "192.0.2.1")}
		e.Subsets[0].Addresses[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p", UID: "p-uid"}
	})
}

// TestMirrorSlice holds one slice in whole against upstream's form.
func TestMirrorSlice(t *testing.T) {
	w := newMirrorWorld(t)
	w.Endpoints = custom(func(e *corev1.Endpoints) {
		e.Labels = map[string]string{"team": "blue", discoveryv1.LabelManagedBy: "me"}
		e.Annotations = map[string]string{"note": "x", corev1.LastAppliedConfigAnnotation: "y", corev1.EndpointsLastChangeTriggerTime: "z"}
		e.Subsets = []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "010.0.0.1", Hostname: "h", NodeName: new("node-1"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p", UID: "u", ResourceVersion: "7"}}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "::ffff:192.0.2.9"}},
			Ports:             []corev1.EndpointPort{{Name: "b", Port: 2, Protocol: corev1.ProtocolUDP}, {Name: "a", Port: 1, Protocol: corev1.ProtocolTCP, AppProtocol: new("http")}},
		}}
	})
	w.sync()
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "svc-1", GenerateName: "svc-", Namespace: "ns", UID: "made-1", ResourceVersion: "1001",
			Labels:      map[string]string{"team": "blue", discoveryv1.LabelServiceName: "svc", discoveryv1.LabelManagedBy: "endpointslicemirroring-controller.k8s.io"},
			Annotations: map[string]string{"note": "x"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Endpoints", Name: "svc", UID: "e-uid",
				Controller: new(true), BlockOwnerDeletion: new(true)}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.9"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}},
			{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
				Hostname: new("h"), NodeName: new("node-1"), TargetRef: w.Endpoints.Subsets[0].Addresses[0].TargetRef},
		},
		Ports: []discoveryv1.EndpointPort{
			{Name: new("a"), Port: new(int32(1)), Protocol: new(corev1.ProtocolTCP), AppProtocol: new("http")},
			{Name: new("b"), Port: new(int32(2)), Protocol: new(corev1.ProtocolUDP)},
		},
	}
	if len(w.Slices) != 1 {
		t.Fatalf("%d slices", len(w.Slices))
	}
	if diff := cmp.Diff(want, w.Slices[0]); diff != "" {
		t.Errorf("slice (-want +got):\n%s", diff)
	}
}

// TestMirrorLimit: the ready come first, and what is no address takes no room.
func TestMirrorLimit(t *testing.T) {
	w := newMirrorWorld(t)
	w.max = 3
	one := subset(80, "nonsense", "192.0.2.2", "192.0.2.1")
	one.NotReadyAddresses = []corev1.EndpointAddress{{IP: "192.0.2.0"}, {IP: "192.0.2.5"}, {IP: "192.0.2.6"}}
	w.Endpoints.Subsets = []corev1.EndpointSubset{one, subset(81, "192.0.2.7", "192.0.2.8", "192.0.2.9")}
	m := MakeMirror(w.MirrorInput, w.max)
	if m.Invalid != 1 || m.Skipped != 3 {
		t.Errorf("%d are invalid and %d skipped, want 1 and 3", m.Invalid, m.Skipped)
	}
	w.sync()
	want := []string{"IPv4 192.0.2.0 notready /TCP:80", "IPv4 192.0.2.1 ready /TCP:80", "IPv4 192.0.2.2 ready /TCP:80",
		"IPv4 192.0.2.7 ready /TCP:81", "IPv4 192.0.2.8 ready /TCP:81", "IPv4 192.0.2.9 ready /TCP:81"}
	if diff := cmp.Diff(want, w.published()); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

// TestRandomLivesOfAMirror leads an Endpoints through random changes, with others
// meddling, and checks after each that what is published is what a naive reading
// of the Endpoints gives and what a plan from nothing publishes, that a plan does
// not depend on the order of its input, and that no address that should get
// traffic all the while is missing at any moment between two writes.
func TestRandomLivesOfAMirror(t *testing.T) {
	steps, writes := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 11))
		w := newMirrorWorld(t)
		w.max = 2 + rng.IntN(8)
		theirs := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}}}
		w.Slices = []*discoveryv1.EndpointSlice{theirs}
		for range 50 {
			w.random(rng)
			shuffled := w.MirrorInput
			shuffled.Slices = slices.Clone(w.Slices)
			rng.Shuffle(len(shuffled.Slices), func(i, j int) {
				shuffled.Slices[i], shuffled.Slices[j] = shuffled.Slices[j], shuffled.Slices[i]
			})
			if a, b := describe(MakeMirror(w.MirrorInput, w.max)), describe(MakeMirror(shuffled, w.max)); a != b {
				t.Fatalf("seed %d: two orders of one input give two plans:\n%s", seed, cmp.Diff(a, b))
			}
			writes += w.syncWatched()
			steps++
			want := w.oracle()
			if diff := cmp.Diff(want, w.published()); diff != "" {
				t.Fatalf("seed %d: published (-oracle +got):\n%s", seed, diff)
			}
			fresh := &mirrorWorld{T: t, MirrorInput: MirrorInput{Service: w.Service, Endpoints: w.Endpoints}, max: w.max}
			fresh.sync()
			if diff := cmp.Diff(fresh.shapes(), w.shapes()); diff != "" {
				t.Fatalf("seed %d: slices (-from nothing +got):\n%s", seed, diff)
			}
			if !slices.Contains(w.Slices, theirs) {
				t.Fatalf("seed %d: somebody else's slice was touched", seed)
			}
		}
	}
	if steps != 2000 || writes < steps/4 {
		t.Errorf("%d steps made %d writes: is this random?", steps, writes)
	}
}

// shapes describes the mirroring slices but for their names and order.
func (w *mirrorWorld) shapes() []string {
	var out []string
	for _, s := range w.Slices {
		if IsMirror(s) && s.DeletionTimestamp == nil {
			s = s.DeepCopy()
			s.Name, s.GenerateName, s.UID, s.ResourceVersion, s.Namespace = "", "", "", "", ""
			slices.SortFunc(s.Endpoints, func(a, b discoveryv1.Endpoint) int { return compareKeys(keyOf(&a), keyOf(&b)) })
			slices.SortFunc(s.Ports, func(a, b discoveryv1.EndpointPort) int { return strings.Compare(portText(&a), portText(&b)) })
			out = append(out, describe(s))
		}
	}
	slices.Sort(out)
	return out
}

// syncWatched is sync, and checks that an address that was ready and still should
// be, at all of its ports, is so after each single write. It returns the number of
// writes.
func (w *mirrorWorld) syncWatched() int {
	w.Helper()
	in := func(state string, lines []string) map[string]bool {
		out := map[string]bool{}
		for _, l := range lines {
			if f := strings.Fields(l); f[2] == state {
				out[f[1]] = true
			}
		}
		return out
	}
	before, should, partly := in("ready", w.published()), in("ready", w.oracle()), in("notready", w.oracle())
	was := w.published()
	m := MakeMirror(w.MirrorInput, w.max)
	for _, write := range m.Writes {
		w.apply(write)
		now := in("ready", w.published())
		for a := range before {
			switch {
			case should[a] && !partly[a] && !now[a]:
				w.Fatalf("address %s is nowhere after %s %s of\n%s\nbefore:\n%s", a, write.Verb, write.Object.GetName(), inWords(m.Writes), strings.Join(was, "\n"))
			case write.Phase > Removals && !should[a] && now[a]:
				w.Fatalf("address %s is still ready after phase %d of\n%s\nbefore:\n%s", a, write.Phase, inWords(m.Writes), strings.Join(was, "\n"))
			}
		}
	}
	w.sync()
	return len(m.Writes)
}

func inWords(writes []Write) string {
	var b strings.Builder
	for _, write := range writes {
		s := write.Object.(*discoveryv1.EndpointSlice)
		fmt.Fprintf(&b, "%d %s %s %s", write.Phase, write.Verb, s.Name, strings.ReplaceAll(string(portKeyOf(s.Ports)), "\n", ","))
		for i := range s.Endpoints {
			fmt.Fprintf(&b, " %s=%v", s.Endpoints[i].Addresses[0], *s.Endpoints[i].Conditions.Ready)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// oracle says what should be published, straight from the rules.
func (w *mirrorWorld) oracle() []string {
	out := []string{}
	e := w.Endpoints
	if w.Service == nil || e == nil || len(w.Service.Spec.Selector) > 0 || w.Service.Spec.Type == corev1.ServiceTypeExternalName || e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return out
	}
	for _, s := range repack(e.Subsets) {
		all := []string{}
		add := func(state string, addresses []corev1.EndpointAddress) {
			for _, a := range addresses {
				family := "IPv4"
				if strings.Contains(a.IP, ":") {
					family = "IPv6"
				}
				all = append(all, fmt.Sprintf("%s %s %s", family, a.IP, state))
			}
		}
		add("ready", s.Addresses)
		add("notready", s.NotReadyAddresses)
		for _, line := range all[:min(len(all), w.max)] {
			for _, p := range s.Ports {
				out = append(out, fmt.Sprintf("%s %s/%s:%d", line, p.Name, p.Protocol, p.Port))
			}
			if len(s.Ports) == 0 {
				out = append(out, line)
			}
		}
	}
	slices.Sort(out)
	return out
}

// random changes a thing or two, at random.
func (w *mirrorWorld) random(rng *rand.Rand) {
	if w.Endpoints == nil {
		w.Endpoints = custom(func(e *corev1.Endpoints) { e.UID = types.UID(fmt.Sprint("e-", rng.IntN(1000))) })
	}
	if w.Service == nil {
		w.Service = service(noSelector)
	}
	svc, e := w.Service.DeepCopy(), w.Endpoints.DeepCopy()
	svc.Spec.Selector, svc.Spec.Type = nil, corev1.ServiceTypeClusterIP
	delete(e.Labels, discoveryv1.LabelSkipMirror)
	w.Service, w.Endpoints = svc, e
	switch rng.IntN(16) {
	case 0:
		w.Service = nil
	case 1:
		w.Endpoints = nil
	case 2:
		svc.Spec.Selector = map[string]string{"a": "b"}
	case 3:
		svc.Spec.Type = corev1.ServiceTypeExternalName
	case 4:
		e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	case 5:
		e.Labels = map[string]string{"team": fmt.Sprint(rng.IntN(3))}
	case 6:
		w.meddle(rng)
	default:
		for range 1 + rng.IntN(3) {
			e.Subsets = randomSubsets(rng, e.Subsets)
		}
	}
}

// meddle changes a slice.
func (w *mirrorWorld) meddle(rng *rand.Rand) {
	i := rng.IntN(len(w.Slices))
	s := w.Slices[i].DeepCopy()
	if s.Name == "theirs" {
		return
	}
	switch rng.IntN(5) {
	case 0:
		w.Slices = slices.Delete(slices.Clone(w.Slices), i, i+1)
		return
	case 1:
		s.Labels["x"] = "y"
	case 2:
		s.Endpoints = s.Endpoints[:rng.IntN(len(s.Endpoints)+1)]
	case 3:
		s.Ports = []discoveryv1.EndpointPort{}
	case 4:
		s.Name, s.UID = s.Name+"-copy", s.UID+"-copy"
		w.Slices = append(w.Slices, s)
		return
	}
	w.Slices[i] = s
}

func randomSubsets(rng *rand.Rand, in []corev1.EndpointSubset) []corev1.EndpointSubset {
	if len(in) == 0 || rng.IntN(6) == 0 {
		return append(in, randomSubset(rng))
	}
	i := rng.IntN(len(in))
	switch rng.IntN(4) {
	case 0:
		return slices.Delete(in, i, i+1)
	case 1:
		in[i].Ports = randomPorts(rng)
	case 2:
		in[i].Addresses, in[i].NotReadyAddresses = randomAddresses(rng, 5), randomAddresses(rng, 2)
	case 3:
		in[i].Addresses, in[i].NotReadyAddresses = in[i].NotReadyAddresses, in[i].Addresses
	}
	return in
}

func randomSubset(rng *rand.Rand) corev1.EndpointSubset {
	return corev1.EndpointSubset{Addresses: randomAddresses(rng, 6), NotReadyAddresses: randomAddresses(rng, 2), Ports: randomPorts(rng)}
}

func randomPorts(rng *rand.Rand) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for i, name := range []string{"a", "b", "c"}[:rng.IntN(4)] {
		out = append(out, corev1.EndpointPort{Name: name, Port: int32(80 + i + 10*rng.IntN(2)), Protocol: corev1.ProtocolTCP})
	}
	return out
}

func randomAddresses(rng *rand.Rand, n int) []corev1.EndpointAddress {
	var out []corev1.EndpointAddress
	for range rng.IntN(n + 1) {
		a := corev1.EndpointAddress{IP: fmt.Sprint("192.0.2.", 1+rng.IntN(9))}
		if rng.IntN(3) == 0 {
			a.IP = fmt.Sprint("2001:db8::", 1+rng.IntN(4))
		}
		out = append(out, a)
	}
	return out
}
