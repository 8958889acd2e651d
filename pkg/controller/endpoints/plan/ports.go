package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// portKey is a canonical text of a set of ports, as a map's key: endpoints share
// a slice only if their ports are the same.
type portKey string

func portKeyOf(ports []discoveryv1.EndpointPort) portKey {
	parts := make([]string, len(ports))
	for i := range ports {
		parts[i] = portText(&ports[i])
	}
	slices.Sort(parts)
	return portKey(strings.Join(parts, "\n"))
}

// portText tells absent values from empty ones, as the API does.
func portText(p *discoveryv1.EndpointPort) string {
	var b strings.Builder
	for _, s := range []*string{p.Name, (*string)(p.Protocol), p.AppProtocol} {
		if s != nil {
			b.WriteString("=" + *s)
		}
		b.WriteByte('|')
	}
	if p.Port != nil {
		b.WriteString(strconv.Itoa(int(*p.Port)))
	}
	return b.String()
}

// portMapper finds the ports that pods of a Service listen on.
type portMapper struct {
	planner *planner
	// fixed is what all pods have if the Service names no target port, else nil.
	fixed *portSet
}

type portSet struct {
	key   portKey
	ports []discoveryv1.EndpointPort
}

func newPortMapper(p *planner) *portMapper {
	m := &portMapper{planner: p}
	named := slices.ContainsFunc(p.Service.Spec.Ports, func(sp corev1.ServicePort) bool {
		return sp.TargetPort.Type == intstr.String
	})
	if !named {
		m.fixed = m.lookUp(&corev1.Pod{})
	}
	return m
}

// of returns the ports of a pod. Never nil, but possibly empty: as upstream, a
// pod that has none of the named ports is still listed, in a slice without ports.
func (m *portMapper) of(pod *corev1.Pod) *portSet {
	if m.fixed != nil {
		return m.fixed
	}
	return m.lookUp(pod)
}

func (m *portMapper) lookUp(pod *corev1.Pod) *portSet {
	ports := []discoveryv1.EndpointPort{}
	for i := range m.planner.Service.Spec.Ports {
		sp := &m.planner.Service.Spec.Ports[i]
		n, ok := verdict.TargetPort(sp, pod)
		if !ok {
			m.planner.portProblem(i, pod)
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name: &sp.Name, Port: &n, Protocol: &sp.Protocol, AppProtocol: sp.AppProtocol,
		})
	}
	slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int { return cmp.Compare(*a.Name, *b.Name) })
	return &portSet{portKeyOf(ports), ports}
}

func (p *planner) portProblem(i int, pod *corev1.Pod) {
	sp := &p.Service.Spec.Ports[i]
	p.problem(podField(pod, fmt.Sprintf("spec.containers.ports[%s]", sp.TargetPort.StrVal)),
		fmt.Sprintf("the Service's port %d targets it, and the pod has no %s port of that name", sp.Port, sp.Protocol))
}
