package translate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Memo translates Services as Service does, but of one with several EndpointSlices
// only those that have changed since it was last asked for: of 5,000 endpoints a
// change costs the hundred of its slice. Those of the others are the same memory
// in both results, so that comparing the two costs as little. The zero value is
// empty. It is not safe for concurrent use.
type Memo struct {
	services map[model.Name]map[string]remembered // by name of the slice
}

type remembered struct {
	uid, version string
	part
}

// Service is Service, the function, for slices that come from an API server. A
// slice without a resource version is translated each time.
func (m *Memo) Service(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) *model.Service {
	if len(endpointSlices) < 2 {
		delete(m.services, NameOf(svc))
		return Service(svc, endpointSlices)
	}
	was, is := m.services[NameOf(svc)], make(map[string]remembered, len(endpointSlices))
	out := assemble(svc, endpointSlices, func(slice *discoveryv1.EndpointSlice) part {
		now := remembered{uid: string(slice.UID), version: slice.ResourceVersion}
		if then, known := was[slice.Name]; known && then.uid == now.uid && then.version == now.version && now.version != "" {
			now = then
		} else {
			now.part = partOf(slice)
		}
		is[slice.Name] = now
		return now.part
	})
	if m.services == nil {
		m.services = map[model.Name]map[string]remembered{}
	}
	m.services[NameOf(svc)] = is
	return out
}

// Forget is for a Service that is no more.
func (m *Memo) Forget(name model.Name) { delete(m.services, name) }
