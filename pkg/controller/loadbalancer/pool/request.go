package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// Key names a Service.
type Key = types.NamespacedName

// request is what a Service of type LoadBalancer asks for.
type request struct {
	key     Key
	uid     types.UID
	created time.Time
	labels  labels.Set
	// ours is false if its class is that of somebody else; class is then what to
	// say of it.
	ours  bool
	class string
	// families are those wanted, without doubles. With all false one is enough.
	families []corev1.IPFamily
	all      bool
	asked    map[corev1.IPFamily]netip.Addr
	// pools are the names of those asked for, in order of preference.
	pools []string
	scope v1alpha1.Scope
	sharing
	// problem is what cannot be understood.
	problem error
	// published are the addresses of its status; unserved says that nothing is in it.
	published []netip.Addr
	unserved  bool
}

// sharing is what has to fit for two Services to have the same address.
type sharing struct {
	// share is the key; "" shares with nobody.
	share string
	ports []port
	// pods name the pods that an externalTrafficPolicy Local sends to; "" for Cluster.
	pods string
}

type port struct {
	number   int32
	protocol corev1.Protocol
}

func (p port) String() string { return fmt.Sprintf("%d/%s", p.number, p.protocol) }

// read returns what a Service asks for, or false if it is of another type.
// unclassed says that those without a class are ours.
func read(svc *corev1.Service, unclassed bool) (request, bool) {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return request{}, false
	}
	r := request{
		key:       Key{Namespace: svc.Namespace, Name: svc.Name},
		uid:       svc.UID,
		created:   svc.CreationTimestamp.Time,
		labels:    svc.Labels,
		families:  familiesOf(svc),
		all:       svc.Spec.IPFamilyPolicy == nil || *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack,
		published: published(svc),
		unserved:  len(svc.Status.LoadBalancer.Ingress) == 0,
	}
	r.ours, r.class = classOf(svc, unclassed)
	if !r.ours {
		return r, true
	}
	r.pools = list(svc.Annotations[v1alpha1.AnnotationPool])
	r.sharing = sharingOf(svc)
	var errs [2]error
	r.asked, errs[0] = asked(svc, r.families)
	r.scope, errs[1] = scopeOf(svc.Annotations)
	r.problem = errors.Join(errs[:]...)
	return r, true
}

func familiesOf(svc *corev1.Service) []corev1.IPFamily {
	out := slices.Compact(slices.Clone(svc.Spec.IPFamilies))
	if len(out) == 0 {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return out
}

func classOf(svc *corev1.Service, unclassed bool) (ours bool, why string) {
	switch class := svc.Spec.LoadBalancerClass; {
	case class == nil && len(svc.Status.LoadBalancer.Ingress) > 0 && !assigned(svc):
		return false, "" // somebody else's, who did not ask for a class either
	case class == nil && unclassed:
		return true, ""
	case class == nil:
		return false, fmt.Sprintf("it has no loadBalancerClass, and Signpost is configured to give addresses only to those of %s", v1alpha1.LoadBalancerClass)
	case *class == v1alpha1.LoadBalancerClass:
		return true, ""
	default:
		return false, fmt.Sprintf("its loadBalancerClass is %s, and Signpost's is %s", *class, v1alpha1.LoadBalancerClass)
	}
}

// assigned says whether what is in the status of a Service is from Signpost, which
// writes both at once.
func assigned(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionAddressAssigned && c.Status == metav1.ConditionTrue
	})
}

// published returns the addresses of a Service's status that are some.
func published(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := v1alpha1.ParseAddress(in.IP); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// asked returns the addresses that a Service asks for by itself.
func asked(svc *corev1.Service, families []corev1.IPFamily) (map[corev1.IPFamily]netip.Addr, error) {
	texts, from := list(svc.Annotations[v1alpha1.AnnotationAddresses]), "annotation "+v1alpha1.AnnotationAddresses
	switch ip := strings.TrimSpace(svc.Spec.LoadBalancerIP); {
	case ip == "":
	case len(texts) == 0:
		texts, from = []string{ip}, "spec.loadBalancerIP"
	case !slices.Contains(texts, ip):
		return nil, fmt.Errorf("annotation %s asks for %s, and spec.loadBalancerIP for %s", v1alpha1.AnnotationAddresses, strings.Join(texts, ", "), ip)
	}
	out := map[corev1.IPFamily]netip.Addr{}
	for _, text := range texts {
		a, err := v1alpha1.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		f := familyOf(a)
		if !slices.Contains(families, f) {
			return nil, fmt.Errorf("%s: %v is of family %s, which the Service has not", from, a, f)
		}
		if other, twice := out[f]; twice && other != a {
			return nil, fmt.Errorf("%s: %v and %v are of one family", from, other, a)
		}
		out[f] = a
	}
	return out, nil
}

func sharingOf(svc *corev1.Service) sharing {
	s := sharing{share: svc.Annotations[v1alpha1.AnnotationShareAddress]}
	for _, p := range svc.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		s.ports = append(s.ports, port{p.Port, protocol})
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.pods = svc.Namespace + " " + labels.Set(svc.Spec.Selector).String()
		if len(svc.Spec.Selector) == 0 {
			s.pods = svc.Namespace + "/" + svc.Name // nobody knows whether others have the same
		}
	}
	return s
}

// clash says why two Services cannot have the same address, or "".
func (s *sharing) clash(other *sharing) string {
	switch {
	case s.share == "" || s.share != other.share:
		return "not shared with it"
	case s.pods != other.pods:
		return "which sends to pods of other nodes: share with externalTrafficPolicy Cluster, or with Local and the same selector"
	}
	for _, p := range s.ports {
		if slices.Contains(other.ports, p) {
			return "which has port " + p.String() + " as well"
		}
	}
	return ""
}

// compare is negative if r comes before other.
func (r *request) compare(other *request) int {
	if c := r.created.Compare(other.created); c != 0 {
		return c
	}
	if c := strings.Compare(r.key.Namespace, other.key.Namespace); c != 0 {
		return c
	}
	return strings.Compare(r.key.Name, other.key.Name)
}

// list reads texts that are separated by commas.
func list(text string) []string {
	var out []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
