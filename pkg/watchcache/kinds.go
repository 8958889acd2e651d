package watchcache

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Mapper knows the kinds that Signpost reads and writes. It stands in for the
// discovery of all the server's kinds, which would cost some requests at each
// start of each node and keep a node from starting while the server is away.
func Mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(scheme.Scheme.PrioritizedVersionsAllGroups())
	for _, kind := range []string{"Service", "Endpoints", "Pod", "Event"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"Namespace", "Node"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	m.Add(networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"), meta.RESTScopeRoot)
	m.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	m.Add(coordinationv1.SchemeGroupVersion.WithKind("Lease"), meta.RESTScopeNamespace)
	return m
}

// namespaceKind is what is watched of namespaces: that they exist.
func namespaceKind() *metav1.PartialObjectMetadata {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return ns
}

// newShared returns the cache of the process.
func newShared(cfg *rest.Config, httpClient *http.Client, nodeName string, newInformer newInformer) (cache.Cache, error) {
	return newCache(cfg, httpClient, newInformer, map[client.Object]cache.ByObject{
		&corev1.Service{}:            {},
		&discoveryv1.EndpointSlice{}: {},
		namespaceKind():              {Transform: nameOnly},
		&networkingv1.ServiceCIDR{}:  {},
		&corev1.Node{}:               {Field: fields.OneTermEqualSelector("metadata.name", nodeName)},
	})
}

// NewTerm returns a cache of what only the leader may watch; kinds say what that
// is and what to keep of it. It lasts for one term of leadership: Start blocks
// until the context that it is given ends.
func NewTerm(cfg *rest.Config, httpClient *http.Client, kinds map[client.Object]cache.ByObject) (cache.Cache, error) {
	return newCache(cfg, httpClient, nil, kinds)
}

// newInformer makes the informer of a kind; nil stands for client-go's own.
type newInformer = func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer

func newCache(cfg *rest.Config, httpClient *http.Client, newInformer newInformer, kinds map[client.Object]cache.ByObject) (cache.Cache, error) {
	c, err := cache.New(cfg, cache.Options{
		HTTPClient:                  httpClient,
		Scheme:                      scheme.Scheme,
		Mapper:                      Mapper(),
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            Strip,
		ByObject:                    kinds,
		NewInformer:                 newInformer,
	})
	if err != nil {
		return nil, fmt.Errorf("making a watch cache for %s: %w", cfg.Host, err)
	}
	return c, nil
}

// Strip drops what nobody here reads and what is large: the record of who set
// which field, and kubectl's copy of the whole object. The record stays where
// somebody has applied something to the object (kubectl apply --server-side), for
// who writes to it must know that.
func Strip(in any) (any, error) {
	if o, err := meta.Accessor(in); err == nil {
		if !slices.ContainsFunc(o.GetManagedFields(), isApplied) {
			o.SetManagedFields(nil)
		}
		delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	return in, nil
}

func isApplied(m metav1.ManagedFieldsEntry) bool {
	return m.Operation == metav1.ManagedFieldsOperationApply
}

func nameOnly(in any) (any, error) {
	if o, err := meta.Accessor(in); err == nil {
		o.SetManagedFields(nil)
		o.SetLabels(nil)
		o.SetAnnotations(nil)
		o.SetOwnerReferences(nil)
	}
	return in, nil
}
