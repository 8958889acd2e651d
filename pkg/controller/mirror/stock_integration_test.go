//go:build integration

package mirror_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (w *cluster) startStock() (stop func()) {
	w.Helper()
	stock, err := server.StartStock("endpointslice-mirroring-controller")
	if err != nil {
		w.Fatal(err)
	}
	w.stock = stock
	return func() {
		if err := stock.Stop(); err != nil {
			w.Error(err)
		}
	}
}

const (
	seed        = 3
	sceneNames  = 40 // Services
	sceneRounds = 10
)

// TestSameAsStock plays the same random scenes to this controller and to
// kube-controller-manager, and compares all that they publish after each, but for
// the names of slices and what kube-controller-manager never says of an endpoint:
// whether it serves and whether it terminates.
//
// Where it gets stuck, as TestBothFamiliesChangePorts shows, that Service is given
// a selector for a while: from nothing it makes the slices right.
func TestSameAsStock(t *testing.T) {
	ours := newCluster(t, "-ours")
	stop := ours.start(nil)
	var want [][]string
	states, published := 0, 0
	for round := range sceneRounds {
		states += ours.scenes(round)
		ours.waitStill(time.Second)
		now := ours.published()
		want = append(want, now)
		published += len(now)
	}
	for _, s := range ours.slices() {
		for _, e := range s.Endpoints {
			if c := e.Conditions; c.Serving == nil || *c.Serving != *c.Ready || c.Terminating == nil || *c.Terminating {
				t.Errorf("%s says of %v: %v", s.Name, e.Addresses, c)
			}
		}
	}
	stop()
	stock := newCluster(t, "-stock")
	defer stock.startStock()()
	stuck := 0
	for round := range sceneRounds {
		stock.scenes(round)
		stock.waitStill(time.Second)
		stuck += stock.waitSame(round, want[round])
	}
	t.Logf("FIGURE seed %d: %d states of a Service, with %d slices in all, are the same; %d times kube-controller-manager was stuck",
		seed, states, published, stuck)
	if published < states/4 {
		t.Errorf("only %d slices: that proves little", published)
	}
	theirEvents, ourEvents := stock.events(), ours.events()
	for end := time.Now().Add(10 * time.Second); !slices.Equal(theirEvents, ourEvents) && time.Now().Before(end); theirEvents = stock.events() {
		time.Sleep(100 * time.Millisecond) // it writes them when it gets to it
	}
	if diff := cmp.Diff(theirEvents, ourEvents); diff != "" || len(theirEvents) == 0 {
		t.Errorf("%d events (-stock +ours):\n%s", len(theirEvents), diff)
	}
}

// waitSame waits until kube-controller-manager publishes what it should, and says
// of how many Services it was stuck. It can be so only with those that have
// slices of both families to make.
func (w *cluster) waitSame(round int, want []string) int {
	w.Helper()
	const most, retry = time.Minute, 4 * time.Second
	helped := map[string]bool{}
	began, last := time.Now(), time.Now()
	for {
		got := w.published()
		if slices.Equal(got, want) {
			return len(helped)
		}
		if time.Since(began) > most {
			w.Fatalf("round %d (-stock +ours):\n%s", round, cmp.Diff(got, want))
		}
		time.Sleep(100 * time.Millisecond)
		if time.Since(last) < retry {
			continue
		}
		last = time.Now()
		for name := range different(got, want) {
			if !slices.ContainsFunc(want, isOf(name, discoveryv1.AddressTypeIPv4)) || !slices.ContainsFunc(want, isOf(name, discoveryv1.AddressTypeIPv6)) {
				continue
			}
			helped[name] = true
			w.Merge(w.service(name), `{"spec":{"selector":{"a":"b"}}}`)
			w.waitFor(name)
			w.Merge(w.service(name), `{"spec":{"selector":null}}`)
		}
	}
}

// isOf says whether a text of published is of a Service and a family.
func isOf(name string, family discoveryv1.AddressType) func(string) bool {
	return func(text string) bool { return strings.HasPrefix(text, fmt.Sprint(name, " ", family, " ")) }
}

// different returns the Services whose texts are not the same.
func different(a, b []string) map[string]bool {
	out := map[string]bool{}
	for _, pair := range [][2][]string{{a, b}, {b, a}} {
		for _, text := range pair[0] {
			if !slices.Contains(pair[1], text) {
				out[text[:strings.Index(text, " ")]] = true
			}
		}
	}
	return out
}

// scenes plays one round, and says how many Services it changed.
func (w *cluster) scenes(round int) int {
	w.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range sceneNames {
		g.Go(func() error {
			return w.scene(rand.New(rand.NewPCG(seed, uint64(1000*round+i))), fmt.Sprintf("svc-%02d", i))
		})
	}
	if err := g.Wait(); err != nil {
		w.Fatal(err)
	}
	return sceneNames
}

// published has a text for each slice that mirrors.
func (w *cluster) published() []string {
	w.Helper()
	var all corev1.EndpointsList
	if err := w.List(w.Context(), &all, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	uids := map[string]types.UID{}
	for _, e := range all.Items {
		uids[e.Name] = e.UID
	}
	out := []string{}
	for _, s := range w.slices() {
		name := s.Name[:strings.LastIndex(s.Name, "-")]
		lines := []string{fmt.Sprint(name, " ", s.AddressType, " labels ", s.Labels, " annotations ", s.Annotations)}
		for _, o := range s.OwnerReferences {
			lines = append(lines, fmt.Sprint("owner ", o.APIVersion, " ", o.Kind, " ", o.Name, " ", o.UID == uids[o.Name], " ", *o.Controller, " ", *o.BlockOwnerDeletion))
		}
		var ports, endpoints []string
		for _, p := range s.Ports {
			app := ""
			if p.AppProtocol != nil {
				app = *p.AppProtocol
			}
			ports = append(ports, fmt.Sprintf("port %s %s %d %q", *p.Name, *p.Protocol, *p.Port, app))
		}
		for _, e := range s.Endpoints {
			text := fmt.Sprint("endpoint ", e.Addresses, " ready ", *e.Conditions.Ready)
			for _, o := range []*string{e.Hostname, e.NodeName, e.Zone} {
				if o != nil {
					text += " " + *o
				} else {
					text += " -"
				}
			}
			endpoints = append(endpoints, fmt.Sprint(text, " ", e.TargetRef, " ", e.Hints))
		}
		slices.Sort(ports)
		slices.Sort(endpoints)
		out = append(out, strings.Join(slices.Concat(lines, ports, endpoints), "\n\t"))
	}
	slices.Sort(out)
	return out
}

// scene changes something about a Service.
func (w *cluster) scene(rng *rand.Rand, name string) error {
	svc, e := w.service(name), w.endpoints(name)
	if err := w.Create(w.Context(), svc); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := w.Create(w.Context(), e); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(e), e); err != nil {
		return err
	}
	patch := func(o client.Object, text string) error {
		return w.Patch(w.Context(), o, client.RawPatch(types.MergePatchType, []byte(text)))
	}
	switch rng.IntN(16) {
	case 0:
		return patch(svc, `{"spec":{"selector":{"a":"b"}}}`)
	case 1:
		return patch(svc, `{"spec":{"selector":null}}`)
	case 2:
		return w.Delete(w.Context(), svc) // the server deletes the Endpoints, too
	case 3:
		return w.Delete(w.Context(), e)
	case 4:
		return patch(e, fmt.Sprintf(`{"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":%q}}}`, []string{"true", "false", "yes"}[rng.IntN(3)]))
	case 5:
		return patch(e, fmt.Sprintf(`{"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":null,"team":"%d"}}}`, rng.IntN(3)))
	case 6:
		return patch(e, fmt.Sprintf(`{"metadata":{"annotations":{"control-plane.alpha.kubernetes.io/leader":%s,"note":"%d"}}}`, []string{`"{}"`, "null", "null"}[rng.IntN(3)], rng.IntN(3)))
	case 7:
		return w.meddle(rng, name)
	}
	e.Subsets = nil
	for range rng.IntN(4) {
		e.Subsets = append(e.Subsets, w.subset(rng))
	}
	if name < "svc-04" && rng.IntN(2) == 0 { // too much for one slice
		e.Subsets = e.Subsets[:0]
		s := corev1.EndpointSubset{NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}
		for i := range 1010 {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.9.%d.%d", i/200, 1+i%200)})
		}
		e.Subsets = append(e.Subsets, s)
	}
	// kube-controller-manager takes ports for different if their application
	// protocols are, as pointers, so there is one only where no other subset is.
	if ports := e.Subsets; len(ports) == 1 && len(ports[0].Ports) > 0 {
		ports[0].Ports[0].AppProtocol = new("http")
	}
	return w.Update(w.Context(), e)
}

// meddle changes the slices of a Service as somebody else would.
func (w *cluster) meddle(rng *rand.Rand, name string) error {
	for _, s := range w.slicesOf(name) {
		var err error
		switch rng.IntN(3) {
		case 0:
			err = w.Delete(w.Context(), &s)
		case 1:
			s.Endpoints = s.Endpoints[:0]
			err = w.Update(w.Context(), &s)
		case 2:
			s.Labels["meddled"], s.Annotations = "with", map[string]string{"meddled": "with"}
			err = w.Update(w.Context(), &s)
		}
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

func (w *cluster) subset(rng *rand.Rand) corev1.EndpointSubset {
	var s corev1.EndpointSubset
	// The names are such that all ports can be in one slice.
	for i := range rng.IntN(4) {
		p := corev1.EndpointPort{Port: int32(80 + i + 10*rng.IntN(2)), Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[rng.IntN(2)]}
		p.Name = strings.ToLower(fmt.Sprint(p.Protocol, p.Port))
		s.Ports = append(s.Ports, p)
	}
	for range 1 + rng.IntN(6) {
		n := 1 + rng.IntN(9)
		a := corev1.EndpointAddress{IP: fmt.Sprint("192.0.2.", n)}
		switch n % 4 {
		case 0:
			a = corev1.EndpointAddress{IP: fmt.Sprint("2001:db8::", n), NodeName: new("node-1")}
		case 1:
			a.Hostname = fmt.Sprint("host-", n)
		case 2:
			a.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "elsewhere", Name: fmt.Sprint("p-", n), UID: types.UID(fmt.Sprint("u-", n))}
		}
		if rng.IntN(4) == 0 {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		} else {
			s.Addresses = append(s.Addresses, a)
		}
	}
	return s
}

// TestChangeFromAndToStock: what kube-controller-manager has mirrored is right,
// but for addresses that are not ready: of those it must be said that they do not
// serve. Going back costs one write for each slice.
func TestChangeFromAndToStock(t *testing.T) {
	const n = 20
	w := newCluster(t, "")
	stop := w.startStock()
	for i := range n {
		name := fmt.Sprint("svc-", i)
		w.Make(w.service(name))
		w.Make(w.endpoints(name, "192.0.2.1", "192.0.2.2", "2001:db8::1"))
	}
	unready := w.endpoints("unready")
	unready.Subsets = []corev1.EndpointSubset{{NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.3"}}}}
	w.Make(unready)
	w.Make(w.service("unready"))
	for i := range n {
		w.waitFor(fmt.Sprint("svc-", i), "192.0.2.1", "192.0.2.2", "2001:db8::1")
	}
	w.waitFor("unready", "192.0.2.3")
	w.waitStill(2 * time.Second)
	stop()
	before := w.versions()
	stop = w.start(nil)
	w.waitStill(3 * time.Second)
	var written []string
	for name, version := range w.versions() {
		if before[name] != version {
			written = append(written, name)
		}
	}
	if len(before) != 2*n+1 || len(written) != 1 || !strings.HasPrefix(written[0], "unready-") {
		t.Errorf("of %d slices of kube-controller-manager's these were written: %v", len(before), written)
	}
	stop()
	ours := w.published()
	before = w.versions()
	stop = w.startStock()
	defer stop()
	w.waitStill(5 * time.Second)
	if diff := cmp.Diff(ours, w.published()); diff != "" {
		t.Errorf("(-ours +stock):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(w.versions()))); diff != "" {
		t.Errorf("names (-ours +stock):\n%s", diff)
	}
}
