package plan

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	endpointsliceutil "k8s.io/endpointslice/util"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

var (
	oracleSeeds = flag.Uint64("oracle.seeds", 300, "how many lives of a Service TestOracle compares with upstream")
	oracleFirst = flag.Uint64("oracle.first", 0, "the first seed of TestOracle")
)

// stepsOfALife is how often a Service of TestOracle is changed and compared.
const stepsOfALife = 12

// TestOracle leads random Services through random changes of pods, nodes and
// themselves, with slices about that were made by whom and spoilt by whomever,
// and has upstream's Reconciler and this package bring the same slices to what
// they should be. What is published then must be the same: which endpoints with
// which ports, conditions, node, zone, hints and host name, and the slices' labels.
//
// What is known to differ on purpose does not occur here:
//   - Services without a selector and ExternalNames: upstream leaves what there
//     is (E1, E2), and its Reconciler is not even called;
//   - two pods with one address (E9);
//   - pods that the node controller has marked unready on a node that lives;
//   - pods with status.podIP and no status.podIPs, which the API server does not
//     let be: upstream skips them;
//   - slices whose reserved labels were changed, or that were emptied, and
//     endpoints that are not ready and have hints: upstream repairs these only when
//     it writes the slice anyway;
//   - E5 is about what causes a plan, not what it is.
//
// Hints by zone CPU are compared by TestZoneHintsAgainstUpstream.
func TestOracle(t *testing.T) {
	var mine, theirs, compared, endpoints int
	ups := map[int]*upstream{}
	for seed := *oracleFirst; seed < *oracleFirst+*oracleSeeds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 42))
		w := oracleWorld(rng)
		most := 1 + rng.IntN(6)
		if ups[most] == nil {
			ups[most] = newUpstream(t, most)
		}
		up := ups[most]
		for step := range stepsOfALife {
			w.oracleChange(rng)
			before := slices.Clone(w.Slices)
			want, theirWrites := up.reconcile(t, w.input())
			p := Make(w.input(), Options{EndpointSlices: true, MaxEndpointsPerSlice: most})
			w.apply(t, p)
			if diff := cmp.Diff(sayAll(want), sayAll(w.Slices)); diff != "" {
				t.Fatalf("seed %d, step %d: published (-upstream +ours):\n%s\nbefore:\n%s\nService: %s", seed, step, diff,
					strings.Join(sayAll(before), "\n"), describe(w.Service.Spec))
			}
			mine, theirs, compared, endpoints = mine+len(p.Writes), theirs+theirWrites, compared+1, endpoints+len(sayAll(w.Slices))
			if rng.IntN(2) == 0 {
				w.Slices = want // go on from upstream's state
			}
		}
	}
	t.Logf("seeds %d to %d: %d states compared, %d lines in them, no difference; writes: ours %d, upstream's %d",
		*oracleFirst, *oracleFirst+*oracleSeeds-1, compared, endpoints, mine, theirs)
	// When ports change in part, upstream overwrites one slice with what was in
	// another, and the addresses are nowhere for a moment. That one does not costs
	// a little; that it should not cost more is what this holds.
	if mine*100 > theirs*105 {
		t.Errorf("%d writes, many more than upstream's %d", mine, theirs)
	}
}

// upstream is upstream's Reconciler in front of a server that is a map.
type upstream struct {
	*endpointslice.Reconciler
	nodes  cache.Indexer
	events *record.FakeRecorder
	topo   *topologycache.TopologyCache

	slices map[string]*discoveryv1.EndpointSlice
	writes int
}

func newUpstream(t *testing.T, maxPerSlice int) *upstream {
	t.Helper()
	u := &upstream{
		nodes:  cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}),
		events: record.NewFakeRecorder(100),
		topo:   topologycache.NewTopologyCache(),
		slices: map[string]*discoveryv1.EndpointSlice{},
	}
	client := &fake.Clientset{}
	client.AddReactor("*", "endpointslices", u.react)
	u.Reconciler = endpointslice.NewReconciler(client, corelisters.NewNodeLister(u.nodes), int32(maxPerSlice),
		endpointsliceutil.NewEndpointSliceTracker(), u.topo, u.events, SliceManager,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	return u
}

func (u *upstream) react(action ktesting.Action) (bool, runtime.Object, error) {
	u.writes++
	switch a := action.(type) {
	case ktesting.CreateAction: // updates, too
		s := a.GetObject().DeepCopyObject().(*discoveryv1.EndpointSlice)
		if action.GetVerb() == "create" {
			s.Name, s.UID = fmt.Sprintf("%s%05d", s.GenerateName, u.writes), types.UID(fmt.Sprint("up-", u.writes))
		} else if u.slices[s.Name] == nil {
			return true, nil, fmt.Errorf("there is no slice %s to update", s.Name)
		}
		u.slices[s.Name] = s
		return true, s, nil
	case ktesting.DeleteAction:
		delete(u.slices, a.GetName())
		return true, nil, nil
	}
	return true, nil, fmt.Errorf("upstream was not known to %s", action.GetVerb())
}

// reconcile returns the slices as upstream would leave them, and its writes. What
// its controller does before it calls the Reconciler is done here.
func (u *upstream) reconcile(t *testing.T, in Input) ([]*discoveryv1.EndpointSlice, int) {
	t.Helper()
	clear(u.slices)
	var existing []*discoveryv1.EndpointSlice
	for _, s := range in.Slices {
		u.slices[s.Name] = s
		if isOurs(s) && s.DeletionTimestamp == nil {
			existing = append(existing, s.DeepCopy())
		}
	}
	var nodes []any
	for name, zone := range in.Zones {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		if zone != "" {
			n.Labels[corev1.LabelTopologyZone] = zone
		}
		nodes = append(nodes, n)
	}
	if err := u.nodes.Replace(nodes, ""); err != nil {
		t.Fatal(err)
	}
	before := u.writes
	err := u.Reconcile(logr.Discard(), in.Service, in.Pods, existing, time.Time{})
	// Its error may say that a pod's Node is missing, which is part of the test.
	if err != nil && !strings.Contains(err.Error(), "Not Found") {
		t.Fatal(err)
	}
	return slices.Collect(maps.Values(u.slices)), u.writes - before
}

// sayAll says line by line what slices publish, whichever slice it is in.
func sayAll(all []*discoveryv1.EndpointSlice) []string {
	out := []string{}
	placeholders := map[string]bool{}
	for _, s := range all {
		labels := fmt.Sprint(s.AddressType, " ", s.Labels)
		if !isOurs(s) {
			out = append(out, "theirs "+s.Name)
			continue
		}
		placeholders[labels] = true
		ports := []string{}
		for i := range s.Ports {
			ports = append(ports, portText(&s.Ports[i]))
		}
		slices.Sort(ports)
		for i := range s.Endpoints {
			out = append(out, fmt.Sprint(labels, " ", strings.Join(ports, ","), " ", say(&s.Endpoints[i])))
		}
	}
	out = append(out, slices.Collect(maps.Keys(placeholders))...)
	slices.Sort(out)
	return out
}

func say(e *discoveryv1.Endpoint) string {
	flat := *e
	hints := ""
	if h := flat.Hints; h != nil {
		hints = fmt.Sprint(h.ForZones, h.ForNodes)
	}
	text := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	c := flat.Conditions
	return fmt.Sprintf("%v %s pod=%s/%s/%s ready=%v serving=%v terminating=%v node=%s zone=%s host=%s hints=%s", flat.Addresses, flat.TargetRef.Kind,
		flat.TargetRef.Namespace, flat.TargetRef.Name, flat.TargetRef.UID, *c.Ready, *c.Serving, *c.Terminating, text(flat.NodeName), text(flat.Zone), text(flat.Hostname), hints)
}

func oracleWorld(rng *rand.Rand) *world {
	svc := service(func(s *corev1.Service) {
		s.Spec.PublishNotReadyAddresses = rng.IntN(4) == 0
		s.Spec.IPFamilies = [][]corev1.IPFamily{{"IPv4"}, {"IPv6"}, {"IPv4", "IPv6"}, {"IPv6", "IPv4"}, nil}[rng.IntN(5)]
		if rng.IntN(3) == 0 {
			s.Spec.ClusterIP = corev1.ClusterIPNone
		}
		s.Spec.Ports = oraclePorts(rng)
		s.Spec.TrafficDistribution = oracleDistribution(rng)
	})
	w := newWorld(svc).nodes(map[string]string{"node-0": "a", "node-1": "b", "node-2": ""})
	for n := range rng.IntN(25) {
		w.all = append(w.all, oraclePod(rng, n))
	}
	w.made = 100_000
	return w
}

func oracleDistribution(rng *rand.Rand) *string {
	return []*string{nil, nil, new("PreferClose"), new("PreferSameZone"), new("PreferSameNode"), new("Unknown")}[rng.IntN(6)]
}

func oraclePorts(rng *rand.Rand) []corev1.ServicePort {
	var out []corev1.ServicePort
	for i := range rng.IntN(4) {
		p := corev1.ServicePort{Name: fmt.Sprint("port-", i), Port: int32(80 + i), Protocol: []corev1.Protocol{"TCP", "UDP"}[rng.IntN(2)]}
		p.TargetPort = []intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("web"), intstr.FromString("side"), intstr.FromString("nobody")}[rng.IntN(4)]
		if rng.IntN(3) == 0 {
			p.AppProtocol = new([]string{"http", ""}[rng.IntN(2)])
		}
		out = append(out, p)
	}
	return out
}

func oraclePod(rng *rand.Rand, n int) *corev1.Pod {
	return pod(n, func(p *corev1.Pod) {
		p.Spec.NodeName = fmt.Sprint("node-", rng.IntN(4))
		if rng.IntN(3) == 0 {
			p.Spec.Hostname, p.Spec.Subdomain = fmt.Sprint("host-", rng.IntN(3)), []string{"svc", "other"}[rng.IntN(2)]
		}
		for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports,
				corev1.ContainerPort{Name: []string{"web", "x"}[rng.IntN(2)], Protocol: proto, ContainerPort: int32(1000 + rng.IntN(2))})
		}
		sidecar := corev1.Container{Name: "s", Ports: []corev1.ContainerPort{{Name: "side", Protocol: corev1.ProtocolTCP, ContainerPort: int32(2000 + rng.IntN(2))}}}
		if rng.IntN(2) == 0 {
			sidecar.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = []corev1.Container{sidecar}
		v4, v6 := corev1.PodIP{IP: p.Status.PodIP}, corev1.PodIP{IP: fmt.Sprintf("fd00::0%x", n+1)}
		p.Status.PodIPs = [][]corev1.PodIP{{v4}, {v6}, {v4, v6}, {v6, v4}, {v4, v6}, nil}[rng.IntN(6)]
		p.Status.PodIP = ""
		if len(p.Status.PodIPs) > 0 {
			p.Status.PodIP = p.Status.PodIPs[0].IP
		}
		oracleState(rng, p)
	})
}

func oracleState(rng *rand.Rand, p *corev1.Pod) {
	setReady(p, rng.IntN(4) > 0, epoch)
	switch rng.IntN(8) {
	case 0:
		terminating(p)
	case 1:
		p.Status.Phase = []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}[rng.IntN(2)]
	case 2:
		p.Labels = map[string]string{"app": []string{"a", "b"}[rng.IntN(2)]}
	case 3:
		p.Status.Conditions = nil
	case 4:
		waitsForGate(p)
	}
}

// waitsForGate: upstream does not know our gate, and nor do we if nobody opens it.
func waitsForGate(p *corev1.Pod) {
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: verdict.ProgrammedGate}}
	notReady(p)
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue})
}

// oracleChange changes some of everything, but for what TestOracle excludes.
func (w *world) oracleChange(rng *rand.Rand) {
	for range 1 + rng.IntN(4) {
		switch i := rng.IntN(30); rng.IntN(9) {
		case 0:
			w.Zones = maps.Clone(w.Zones)
			w.Zones[fmt.Sprint("node-", rng.IntN(3))] = []string{"a", "b", "c", ""}[rng.IntN(4)]
		case 1:
			w.Zones = maps.Clone(w.Zones)
			delete(w.Zones, fmt.Sprint("node-", rng.IntN(3)))
		case 2:
			w.oracleChangeService(rng)
		case 3:
			w.spoil(rng)
		case 4, 5:
			w.all = slices.DeleteFunc(slices.Clone(w.all), func(p *corev1.Pod) bool { return p.Name == fmt.Sprintf("pod-%03d", i) })
		case 6, 7:
			p := oraclePod(rng, i)
			p.UID += types.UID(fmt.Sprint("-", rng.IntN(2)))
			w.all = append(slices.DeleteFunc(slices.Clone(w.all), func(o *corev1.Pod) bool { return o.Name == p.Name }), p)
		default:
			if len(w.all) > 0 {
				i %= len(w.all)
				w.all[i] = w.all[i].DeepCopy()
				oracleState(rng, w.all[i])
			}
		}
	}
	w.shuffle(rng)
}

func (w *world) oracleChangeService(rng *rand.Rand) {
	svc := w.Service.DeepCopy()
	switch rng.IntN(6) {
	case 0:
		svc.Spec.PublishNotReadyAddresses = !svc.Spec.PublishNotReadyAddresses
	case 1:
		svc.Labels = map[string]string{"team": []string{"blue", "red"}[rng.IntN(2)], discoveryv1.LabelManagedBy: "me", corev1.IsHeadlessService: "perhaps"}
	case 2:
		svc.UID += "x"
	case 3:
		svc.Spec.Ports = oraclePorts(rng)
	case 4:
		svc.Spec.TrafficDistribution = oracleDistribution(rng)
	case 5:
		svc.Spec.IPFamilies = [][]corev1.IPFamily{{"IPv4"}, {"IPv4", "IPv6"}, {"IPv6"}}[rng.IntN(3)]
	}
	w.Service = svc
}

// spoil does to the slices what somebody else might.
func (w *world) spoil(rng *rand.Rand) {
	if len(w.Slices) == 0 || rng.IntN(6) == 0 {
		theirs := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Namespace: "ns", UID: "theirs", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}}, AddressType: "IPv4"}
		if !slices.ContainsFunc(w.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == "theirs" }) {
			w.Slices = append(w.Slices, theirs)
		}
		return
	}
	i := rng.IntN(len(w.Slices))
	s := w.Slices[i].DeepCopy()
	if !isOurs(s) {
		return
	}
	w.Slices = slices.Clone(w.Slices)
	w.Slices[i] = s
	switch n := len(s.Endpoints); rng.IntN(7) {
	case 0:
		w.Slices = slices.Delete(w.Slices, i, i+1)
	case 1:
		s.Labels["team"] = "green"
	case 2:
		s.Endpoints = s.Endpoints[:(n+1)/2]
	case 3:
		s.OwnerReferences = nil
	case 4:
		if n > 0 {
			e := &s.Endpoints[rng.IntN(n)]
			e.Conditions.Ready, e.NodeName = new(!*e.Conditions.Ready), new("nowhere")
		}
	case 5:
		for j := range s.Endpoints {
			if e := &s.Endpoints[j]; *e.Conditions.Ready {
				e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "elsewhere"}}}
			}
		}
	case 6:
		if n > 0 {
			e := s.Endpoints[0].DeepCopy()
			e.Addresses, e.TargetRef.Name, e.TargetRef.UID = []string{"10.9.9.9"}, "ghost", "ghost"
			if s.AddressType == discoveryv1.AddressTypeIPv6 {
				e.Addresses = []string{"fd09::9"}
			}
			s.Endpoints = append(s.Endpoints, *e)
		}
	}
}
