package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
)

func TestHolderOfTheStockLease(t *testing.T) {
	now := time.Now()
	lease := func(holder string, renewed time.Duration) *coordinationv1.LeaseSpec {
		return &coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: new(int32(15)),
			AcquireTime: &metav1.MicroTime{Time: now.Add(-time.Hour)}, RenewTime: &metav1.MicroTime{Time: now.Add(-renewed)},
		}
	}
	never := lease("x", 0)
	never.RenewTime = nil
	for _, tt := range []struct {
		name  string
		lease *coordinationv1.LeaseSpec
		want  string
	}{
		{"renewed", lease("x", 14*time.Second), "x"},
		{"expired", lease("x", 16*time.Second), ""},
		{"given back", lease("", time.Second), ""},
		{"never renewed", never, ""},
	} {
		if got := holderOf(tt.lease, now); got.holder != tt.want || tt.want != "" && !got.since.Equal(now.Add(-time.Hour)) {
			t.Errorf("%s: held by %+v, want %q", tt.name, got, tt.want)
		}
	}
}

func TestStockWrote(t *testing.T) {
	at := func(minute int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
	}
	fields := []metav1.ManagedFieldsEntry{
		{Manager: "kube-controller-manager", Time: at(3)},
		{Manager: "signpost", Time: at(9)},
		{Manager: "kube-controller-manager", Time: at(5)},
		{Manager: "kubectl", Time: at(8)},
		{Manager: "kube-controller-manager"},
	}
	if got := stockWrote(fields); !got.Equal(at(5).Time) {
		t.Errorf("written at %v, want %v", got, at(5))
	}
	if got := stockWrote(fields[1:2]); !got.IsZero() {
		t.Errorf("what Signpost wrote itself is taken for the stock controllers', at %v", got)
	}
}

// listed answers a List with the objects of a kind, a page of one at a time.
type listed map[string][]metav1.PartialObjectMetadata

func (listed) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	panic("nobody asks")
}

func (l listed) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	o := (&client.ListOptions{}).ApplyOptions(options)
	var all []metav1.PartialObjectMetadata
	for _, item := range l[into.GetObjectKind().GroupVersionKind().Kind] {
		if o.LabelSelector == nil || o.LabelSelector.Matches(labelsOf(item.Labels)) {
			all = append(all, item)
		}
	}
	at := len(o.Continue)
	if at < len(all) {
		into.(*metav1.PartialObjectMetadataList).Items = all[at : at+1]
	}
	if at+1 < len(all) {
		into.SetContinue(o.Continue + "x")
	}
	return nil
}

type labelsOf map[string]string

func (l labelsOf) Has(k string) bool              { _, has := l[k]; return has }
func (l labelsOf) Get(k string) string            { return l[k] }
func (l labelsOf) Lookup(k string) (string, bool) { v, has := l[k]; return v, has }

// TestOnlyWhatSignpostWritesItselfIsEvidence: the controllers that are off here
// may be alive there.
func TestOnlyWhatSignpostWritesItselfIsEvidence(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	object := func(name, managedBy string, after time.Duration) metav1.PartialObjectMetadata {
		return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelManagedBy: managedBy},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", Time: &metav1.Time{Time: began.Add(after)}}},
		}}
	}
	const slices, mirrors, endpoints = "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io", "EndpointsList"
	old := object("old", slices, -time.Minute)
	oldMirror := object("old", mirrors, -time.Minute)
	for _, written := range []struct {
		name, kind string
		object     metav1.PartialObjectMetadata
		// counts says whether it is evidence, by which controllers are on.
		counts func(*v1alpha1.Controllers) bool
	}{
		{"slice", "EndpointSliceList", object("new", slices, time.Minute), func(c *v1alpha1.Controllers) bool { return c.EndpointSlice.Enabled }},
		{"mirror", "EndpointSliceList", object("new", mirrors, time.Minute), func(c *v1alpha1.Controllers) bool { return c.EndpointSliceMirroring.Enabled }},
		{"somebody's slice", "EndpointSliceList", object("new", "me", time.Minute), func(*v1alpha1.Controllers) bool { return false }},
		{"endpoints", endpoints, object("new", "", time.Minute), func(c *v1alpha1.Controllers) bool { return c.Endpoints.Enabled }},
	} {
		for on := range 8 {
			cfg := v1alpha1.Default()
			c := &cfg.Controllers
			c.Endpoints.Enabled, c.EndpointSlice.Enabled, c.EndpointSliceMirroring.Enabled = on&1 > 0, on&2 > 0, on&4 > 0
			t.Run(fmt.Sprintf("%s/%03b", written.name, on), func(t *testing.T) {
				there := listed{"EndpointSliceList": {old, oldMirror}, endpoints: {old}}
				there[written.kind] = append(there[written.kind], written.object)
				s := &stock{client: there, endpoints: c.Endpoints.Enabled, managers: sliceManagers(c)}
				got, err := s.writtenByAny(t.Context(), began)
				if err != nil {
					t.Fatal(err)
				}
				if is := strings.Contains(got, "ns/new was written by them"); is != written.counts(c) || !is && got != "" {
					t.Errorf("evidence is %q", got)
				}
			})
		}
	}
}

// TestATermWatchesOnlyWhatItNeeds: to mirror takes no Pods.
func TestATermWatchesOnlyWhatItNeeds(t *testing.T) {
	for on := range 8 {
		var c v1alpha1.Controllers
		c.Endpoints.Enabled, c.EndpointSlice.Enabled, c.EndpointSliceMirroring.Enabled = on&1 > 0, on&2 > 0, on&4 > 0
		if got, want := watches(&c, &corev1.Pod{}), on&3 > 0; got != want {
			t.Errorf("%03b: watches Pods: %v", on, got)
		}
		if got, want := watches(&c, &corev1.Endpoints{}), on&5 > 0; got != want {
			t.Errorf("%03b: watches Endpoints: %v", on, got)
		}
	}
}
