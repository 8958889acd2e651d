package endpoints

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// The labels of nodes on which no ordinary pod is expected to run, whose CPUs
// therefore say nothing about where a Service's clients are.
const (
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	labelMaster       = "node-role.kubernetes.io/master"
)

// topology adds up the CPUs of the zones, in thousandths.
type topology struct {
	cpu map[string]int64
	// unclear is how many nodes count, but have no zone or no CPU.
	unclear int
}

// share is what one node adds.
type share struct {
	counts bool
	zone   string
	cpu    int64
}

// shareOf reads it as upstream does: nodes that are not ready do not count.
func shareOf(o *corev1.Node) share {
	_, controlPlane := o.Labels[labelControlPlane]
	_, master := o.Labels[labelMaster]
	ready := nodeReady(o)
	return share{
		counts: !controlPlane && !master && ready != nil && ready.Status == corev1.ConditionTrue,
		zone:   o.Labels[corev1.LabelTopologyZone],
		cpu:    o.Status.Allocatable.Cpu().MilliValue(),
	}
}

// add adds a node's share, or takes it away.
func (t *topology) add(s share, sign int) {
	switch {
	case !s.counts:
	case s.zone == "" || s.cpu == 0:
		t.unclear += sign
	default:
		if t.cpu[s.zone] += int64(sign) * s.cpu; t.cpu[s.zone] == 0 {
			delete(t.cpu, s.zone)
		}
	}
}

// zoneCPU returns a copy for a plan: nil if it is not all known.
func (t *topology) zoneCPU() map[string]int64 {
	if t.unclear > 0 {
		return nil
	}
	return maps.Clone(t.cpu)
}

// noteWish remembers whether a Service wants hints by zone.
func (x *index) noteWish(s *serviceEntry, svc *corev1.Service) {
	if plan.WantsZones(svc) {
		x.byZone[s] = struct{}{}
	} else {
		delete(x.byZone, s)
	}
}

// hintedByZone adds the Services that want hints by zone, if the zones have other
// CPUs than they had.
func (x *index) hintedByZone(had map[string]int64, to map[*serviceEntry]struct{}) {
	if !maps.Equal(had, x.nodes.zoneCPU()) {
		maps.Copy(to, x.byZone)
	}
}
