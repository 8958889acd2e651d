package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// LabelSource is the label of a slice of ours that names what it was made from, in
// a form that every name fits into.
const LabelSource = "signpost.dev/source"

// Input is all that a plan depends on. Nothing in it is changed.
type Input struct {
	// Service is nil if it asks for no slices of ours, or is gone.
	Service *corev1.Service
	// Sources are the slices of others, and those that FromNames makes.
	Sources []*discoveryv1.EndpointSlice
	// Ours are those that exist.
	Ours []*discoveryv1.EndpointSlice
	// Check is nil if nothing is checked.
	Check *check.Check
	// Fails says of a backend whether it fails its check, and is to get nothing.
	Fails func(netip.AddrPort) bool
}

// IsOurs says whether a slice is one of ours.
func IsOurs(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == v1alpha1.BackendsManager
}

// Make returns what to write. What takes slices away comes last, lest an address
// that is in another one from now on be nowhere.
func Make(in Input) []plan.Write {
	wanted := map[string]*discoveryv1.EndpointSlice{}
	if in.Service != nil {
		for _, s := range in.Sources {
			ours := in.slice(s)
			wanted[ours.Name] = ours
		}
	}
	var creates, updates, deletes []plan.Write
	have := map[string]bool{}
	for _, is := range sorted(in.Ours) {
		if is.DeletionTimestamp != nil {
			continue
		}
		have[is.Name] = true
		switch want := wanted[is.Name]; {
		case want == nil:
			deletes = append(deletes, plan.Write{Verb: plan.Delete, Phase: plan.Leftovers, Object: is})
		case !same(is, want):
			next := *is
			next.Labels, next.Annotations, next.OwnerReferences = want.Labels, nil, want.OwnerReferences
			next.Ports, next.Endpoints = want.Ports, want.Endpoints
			updates = append(updates, plan.Write{Verb: plan.Update, Phase: plan.Additions, Object: &next})
		}
	}
	if in.Service != nil && in.Service.DeletionTimestamp == nil {
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if !have[name] {
				creates = append(creates, plan.Write{Verb: plan.Create, Phase: plan.Additions, Object: wanted[name]})
			}
		}
	}
	return slices.Concat(updates, creates, deletes)
}

func sorted(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(in), func(a, b *discoveryv1.EndpointSlice) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

func same(is, want *discoveryv1.EndpointSlice) bool {
	return maps.Equal(is.Labels, want.Labels) && len(is.Annotations) == 0 &&
		equality.Semantic.DeepEqual(is.OwnerReferences, want.OwnerReferences) &&
		equality.Semantic.DeepEqual(is.Ports, want.Ports) &&
		equality.Semantic.DeepEqual(is.Endpoints, want.Endpoints)
}

// slice returns what is to be published of a source. Its name follows from the
// source's, so that two who plan at once cannot make it twice.
func (in *Input) slice(source *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	svc := in.Service
	id := sourceID(source.Name, source.AddressType)
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: svc.Name + "-signpost-" + id,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: svc.Name,
				discoveryv1.LabelManagedBy:   v1alpha1.BackendsManager,
				LabelSource:                  id,
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: source.AddressType,
		Ports:       source.Ports,
		Endpoints:   make([]discoveryv1.Endpoint, 0, len(source.Endpoints)),
	}
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out.Labels[corev1.IsHeadlessService] = ""
	}
	var port uint16
	if in.Check != nil {
		port, _ = in.Check.PortOf(source.Ports) // 0 if it cannot be checked, which others tell of
	}
	for i := range source.Endpoints {
		out.Endpoints = append(out.Endpoints, in.endpoint(&source.Endpoints[i], port))
	}
	return out
}

func sourceID(name string, addressType discoveryv1.AddressType) string {
	sum := sha256.Sum256([]byte(name + "/" + string(addressType)))
	return hex.EncodeToString(sum[:5])
}

// endpoint returns a copy with the conditions that follow from the check: what
// fails it is neither ready nor serving. What its owner says counts, too.
func (in *Input) endpoint(e *discoveryv1.Endpoint, port uint16) discoveryv1.Endpoint {
	out := *e
	out.DeprecatedTopology = nil // which the API takes from nobody any more
	fails := false
	if addr, ok := check.AddrOf(e); ok && port != 0 {
		fails = in.Fails(netip.AddrPortFrom(addr, port))
	}
	ready := IsReady(e) && (!fails || in.Service.Spec.PublishNotReadyAddresses)
	out.Conditions = discoveryv1.EndpointConditions{
		Ready:       new(ready),
		Serving:     new(isSet(e.Conditions.Serving, IsReady(e)) && !fails),
		Terminating: new(isSet(e.Conditions.Terminating, false)),
	}
	return out
}

// IsReady says whether the owner of an endpoint says that it is ready: silence means
// that it is.
func IsReady(e *discoveryv1.Endpoint) bool { return isSet(e.Conditions.Ready, true) }

func isSet(condition *bool, silence bool) bool {
	if condition == nil {
		return silence
	}
	return *condition
}
