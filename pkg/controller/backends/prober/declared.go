package prober

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
)

type serviceKey = types.NamespacedName

// declared is what the cluster says of one Service.
type declared struct {
	uid types.UID
	// check is nil if there is nothing to check.
	check *check.Check
	// slices are those of ours, by name: they have all the backends, also those that
	// the leader found by their names.
	slices map[string]*discoveryv1.EndpointSlice
	keys   []check.Key
	// slots has an element for each check of the Service that is under way.
	slots chan struct{}
}

func (p *Prober) sources() []listen.Source {
	return []listen.Source{
		{Cache: p.options.Shared, Object: &corev1.Service{}, Handler: listen.Handler[*corev1.Service]{Changed: p.serviceChanged, Deleted: p.serviceDeleted}},
		{Cache: p.options.Shared, Object: &discoveryv1.EndpointSlice{}, Handler: listen.Handler[*discoveryv1.EndpointSlice]{Changed: p.sliceChanged, Deleted: p.sliceDeleted}},
	}
}

// serviceChanged: most Services declare nothing, and never did.
func (p *Prober) serviceChanged(was, is *corev1.Service, _ bool) {
	request, wants := check.Read(is)
	if !wants && (was == nil || !v1alpha1.WantsBackends(was.Annotations)) {
		return
	}
	p.change(client.ObjectKeyFromObject(is), func(d *declared) { d.uid, d.check = is.UID, request.Check })
}

func (p *Prober) serviceDeleted(was *corev1.Service) {
	if v1alpha1.WantsBackends(was.Annotations) {
		p.change(client.ObjectKeyFromObject(was), func(d *declared) { d.check = nil })
	}
}

// ownerOf returns the Service of a slice of ours, or false for one of others.
func ownerOf(s *discoveryv1.EndpointSlice) (serviceKey, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return serviceKey{Namespace: s.Namespace, Name: name}, name != "" && s.Labels[discoveryv1.LabelManagedBy] == v1alpha1.BackendsManager
}

func (p *Prober) sliceChanged(was, is *discoveryv1.EndpointSlice, _ bool) {
	k, ok := ownerOf(is)
	if was != nil {
		if old, had := ownerOf(was); had && (!ok || old != k) {
			p.sliceDeleted(was)
		}
	}
	if ok {
		p.change(k, func(d *declared) { d.slices[is.Name] = is })
	}
}

func (p *Prober) sliceDeleted(was *discoveryv1.EndpointSlice) {
	if k, ok := ownerOf(was); ok {
		p.change(k, func(d *declared) { delete(d.slices, was.Name) })
	}
}

// change changes what is declared of a Service, and works out its targets.
func (p *Prober) change(k serviceKey, change func(*declared)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.declared[k]
	if d == nil {
		d = &declared{slices: map[string]*discoveryv1.EndpointSlice{}, slots: make(chan struct{}, forOne)}
		p.declared[k] = d
	}
	change(d)
	if d.check == nil && len(d.slices) == 0 {
		delete(p.declared, k)
	}
	p.retarget(d)
}

// retarget makes the targets those of d. p.mu is held.
func (p *Prober) retarget(d *declared) {
	var is []check.Target
	if d.check != nil {
		all := make([]*discoveryv1.EndpointSlice, 0, len(d.slices))
		for _, s := range d.slices {
			all = append(all, s)
		}
		is = d.check.Targets(d.uid, all)
	}
	stays := make(map[check.Key]bool, len(is))
	was := d.keys
	d.keys = make([]check.Key, 0, len(is))
	for _, t := range is {
		stays[t.Key], d.keys = true, append(d.keys, t.Key)
		if p.targets[t.Key] == nil {
			p.targets[t.Key] = &target{Target: t, slots: d.slots}
		}
	}
	for _, k := range was {
		if !stays[k] {
			p.targets[k].gone = true
			delete(p.targets, k)
		}
	}
}
