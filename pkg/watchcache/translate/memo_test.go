package translate

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/model"
)

// TestMemoIsService: whatever was translated before, a Memo says what Service says.
func TestMemoIsService(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var memo Memo
	versions := 0
	now := map[string]*discoveryv1.EndpointSlice{}
	for step := range 3000 {
		name := fmt.Sprint("slice-", rng.IntN(5))
		switch rng.IntN(6) {
		case 0:
			delete(now, name)
		case 1:
			memo.Forget(model.Name{Namespace: "ns", Name: "svc"})
		default:
			versions++
			now[name] = slice(name, func(s *discoveryv1.EndpointSlice) {
				s.UID = types.UID(fmt.Sprint(rng.IntN(3)))
				if rng.IntN(10) > 0 {
					s.ResourceVersion = fmt.Sprint(versions)
				}
				for i := range rng.IntN(4) {
					s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", rng.IntN(300), i)}})
				}
			})
		}
		svc := service(func(s *corev1.Service) { s.Spec.Ports[0].Port = rng.Int32N(3) })
		var all []*discoveryv1.EndpointSlice
		for _, s := range now {
			all = append(all, s)
		}
		if diff := cmp.Diff(Service(svc, all), memo.Service(svc, all), byValue); diff != "" {
			t.Fatalf("step %d (-Service +Memo):\n%s", step, diff)
		}
	}
}

// manySlices are 50 slices of 100 endpoints.
func manySlices() []*discoveryv1.EndpointSlice {
	out := make([]*discoveryv1.EndpointSlice, 50)
	for i := range out {
		out[i] = slice(fmt.Sprint("slice-", i), func(s *discoveryv1.EndpointSlice) {
			s.ResourceVersion, s.Endpoints = "1", nil
			for j := range 100 {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.0.%d", i, j)}, NodeName: new("node")})
			}
		})
	}
	return out
}

// TestMemoCostsTheChange: the endpoints of slices that have not changed are not
// even copied.
func TestMemoCostsTheChange(t *testing.T) {
	var memo Memo
	svc, all := service(func(*corev1.Service) {}), manySlices()
	was := memo.Service(svc, all)
	all[7] = slice(all[7].Name, func(s *discoveryv1.EndpointSlice) { s.ResourceVersion = "2" })
	is := memo.Service(svc, all)
	kept := 0
	for i := range is.Groups {
		if reflect.ValueOf(was.Groups[i].Endpoints).Pointer() == reflect.ValueOf(is.Groups[i].Endpoints).Pointer() {
			kept++
		}
	}
	if kept != len(all)-1 {
		t.Errorf("the endpoints of %d slices were kept, want all but one of %d", kept, len(all))
	}
}

// BenchmarkOneSliceOfFifty is the translation of a Service of 5,000 endpoints, and
// whether it is another than before, when one slice has changed.
func BenchmarkOneSliceOfFifty(b *testing.B) {
	for name, translated := range map[string]func(*corev1.Service, []*discoveryv1.EndpointSlice) *model.Service{
		"whole": Service, "memo": new(Memo).Service,
	} {
		b.Run(name, func(b *testing.B) {
			svc, all := service(func(*corev1.Service) {}), manySlices()
			var prev *model.Snapshot
			b.ReportAllocs()
			for i := range b.N {
				all[7] = slice(all[7].Name, func(s *discoveryv1.EndpointSlice) {
					s.ResourceVersion, s.Endpoints = fmt.Sprint(i+2), all[7].Endpoints
				})
				prev = Next(prev, Changes{Services: map[model.Name]*model.Service{NameOf(svc): translated(svc, all)}})
			}
		})
	}
}
