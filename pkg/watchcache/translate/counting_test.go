package translate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestWhichSlicesCount: for the Service of each row, of a user's slice u, a mirrored
// one m, and those of the health checks for this Service, c, and for a former one of
// its name, f.
func TestWhichSlicesCount(t *testing.T) {
	made := func(name, manager string, owner types.UID) *discoveryv1.EndpointSlice {
		return slice(name, func(s *discoveryv1.EndpointSlice) {
			s.Labels = map[string]string{discoveryv1.LabelManagedBy: manager}
			if owner != "" {
				s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "svc", UID: owner, Controller: new(true)}}
			}
		})
	}
	all := map[rune]*discoveryv1.EndpointSlice{
		'u': made("u", "", ""), 'm': made("m", "endpointslicemirroring-controller.k8s.io", "endpoints-uid"),
		'c': made("c", "external-backends.signpost.dev", "uid"), 'd': made("d", "external-backends.signpost.dev", "uid"),
		'f': made("f", "external-backends.signpost.dev", "former"),
	}
	checked := func(s *corev1.Service) {
		s.UID, s.Spec.Selector, s.Annotations = "uid", nil, map[string]string{"signpost.dev/health-check": "tcp"}
	}
	named := func(s *corev1.Service) {
		s.UID, s.Spec.Selector, s.Annotations = "uid", nil, map[string]string{"signpost.dev/backend-names": "a.example.com"}
	}
	plain := func(s *corev1.Service) { s.UID, s.Spec.Selector = "uid", nil }
	selecting := func(s *corev1.Service) { checked(s); s.Spec.Selector = map[string]string{"app": "a"} }
	for name, test := range map[string]struct {
		service     func(*corev1.Service)
		have, count string
	}{
		"nobody checks":                   {plain, "um", "um"},
		"checked":                         {checked, "umc", "c"},
		"checked, several":                {checked, "cud", "cd"},
		"by name":                         {named, "c", "c"},
		"not checked yet":                 {checked, "um", "um"},
		"not checked any more":            {plain, "umc", "um"},
		"it has a selector by now":        {selecting, "umc", "um"},
		"those of a former Service":       {checked, "umf", "um"},
		"those of a former one, and ours": {checked, "umfc", "c"},
		"only ours, and not any more":     {plain, "c", ""},
		"none":                            {checked, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var have []*discoveryv1.EndpointSlice
			for _, c := range test.have {
				have = append(have, all[c])
			}
			var got strings.Builder
			for _, s := range counting(service(test.service), have) {
				got.WriteString(s.Name)
			}
			if diff := cmp.Diff(test.count, got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMemoKnowsWhichSlicesCount: also when that changes while the slices do not.
func TestMemoKnowsWhichSlicesCount(t *testing.T) {
	ours := slice("c", func(s *discoveryv1.EndpointSlice) {
		s.ResourceVersion, s.Labels = "1", map[string]string{discoveryv1.LabelManagedBy: "external-backends.signpost.dev"}
		s.OwnerReferences = []metav1.OwnerReference{{UID: "uid", Controller: new(true)}}
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}}
	})
	theirs := slice("u", func(s *discoveryv1.EndpointSlice) {
		s.ResourceVersion, s.Endpoints = "1", []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}, {Addresses: []string{"192.0.2.2"}}}
	})
	var memo Memo
	for i, annotated := range []bool{false, true, false, true} {
		svc := service(func(s *corev1.Service) {
			s.UID, s.Spec.Selector = "uid", nil
			if annotated {
				s.Annotations = map[string]string{"signpost.dev/health-check": "tcp"}
			}
		})
		want := 2
		if annotated {
			want = 1
		}
		got := 0
		for _, g := range memo.Service(svc, []*discoveryv1.EndpointSlice{ours, theirs}).Groups {
			got += len(g.Endpoints)
		}
		if got != want {
			t.Errorf("step %d: %d endpoints, want %d", i, got, want)
		}
	}
}
