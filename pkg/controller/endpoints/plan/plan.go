package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Options say what to plan for.
type Options struct {
	// Endpoints and EndpointSlices switch the two kinds on, each by itself.
	Endpoints, EndpointSlices bool
	// MaxEndpointsPerSlice is at least 1; the API allows up to 1000.
	MaxEndpointsPerSlice int
}

// Input is all that a plan depends on. Nothing in it is changed.
type Input struct {
	Service *corev1.Service
	// Pods are those that the Service's selector selects, in any order.
	Pods []*corev1.Pod
	// Zones has an entry for each existing Node that a pod runs on; its value is
	// the node's zone, or empty.
	Zones map[string]string
	// Dead has those of these Nodes that are taken to be dead.
	Dead map[string]bool
	// Failed has those of the Dead from which nothing is heard any more at all, each
	// with the reason: none of their pods can be sent to, ready or not.
	Failed map[string]string
	// TellsPods: somebody opens verdict.ProgrammedGate of the pods that wait for it.
	// Without that they are not published before.
	TellsPods bool
	// ZoneCPU is how many thousandths of a CPU each zone's nodes have for pods:
	// those that are ready and are no control plane. Nil if that of one of them is
	// not known. It is looked at for a Service that WantsZones.
	ZoneCPU map[string]int64
	// Since has, for pods that changed more than once since the last plan whose
	// writes succeeded, when they first did. For others it is ChangeTime.
	Since map[types.UID]time.Time
	// Slices are all EndpointSlices that bear the Service's name as label, by
	// whomever they are managed, in any order.
	Slices []*discoveryv1.EndpointSlice
	// Endpoints is the object of the Service's name, or nil.
	Endpoints *corev1.Endpoints
}

// Plan is what to write. The zero Plan writes nothing.
type Plan struct {
	// Writes are sorted by Phase.
	Writes []Write
	// Trigger is when the change happened that made the writes necessary, as far
	// as the objects tell; zero if they do not.
	Trigger time.Time
	// Problems are what keeps pods or ports of the Service from being published.
	Problems []model.Problem
	// Unhinted says, for a Service that WantsZones, why it gets no hints: one for
	// each family that gets none, with upstream's text as message.
	Unhinted []model.Problem
	// Shared says that several of the pods claim one address.
	Shared bool
}

// Verb is what a Write does.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Phase orders writes. Those of one phase may be done in any order or at once.
type Phase int

// The phases, in their order.
const (
	// Removals take away addresses that should get no traffic any more. They
	// come first and wait for nothing.
	Removals Phase = iota
	// Additions bring addresses and change the rest.
	Additions
	// Leftovers take away addresses that an addition put elsewhere. They must be
	// done only when all of the earlier phases succeeded, lest an address be
	// nowhere.
	Leftovers
)

// Object is an EndpointSlice or an Endpoints.
type Object interface {
	metav1.Object
	runtime.Object
}

// Write is one request to the API server.
type Write struct {
	Verb  Verb
	Phase Phase
	// Object is to be written as it is. For Update and Delete it has the UID and
	// resource version of the object that the plan was made from: the write must
	// fail if that is no longer the present one. It shares memory with the Input;
	// copy it before giving it to anything that may write to it.
	Object Object
}

// Make plans for a Service that exists.
func Make(in Input, opt Options) Plan {
	p := &planner{Input: in, maxPerSlice: max(1, opt.MaxEndpointsPerSlice), owners: owners(in.Pods)}
	p.plan.Shared = len(p.owners) > 0
	selects := SelectsPods(in.Service)
	if opt.EndpointSlices {
		if selects {
			p.planSlices()
		} else {
			p.abandonSlices()
		}
	}
	if opt.Endpoints {
		if selects {
			p.planEndpoints()
		} else if in.Endpoints != nil && isAbandoned(in.Endpoints) {
			p.add(Delete, Removals, in.Endpoints)
		}
	}
	return p.finish()
}

// MakeForDeleted plans for the Endpoints of a name for which there is no
// Service. EndpointSlices need no plan then: their owner reference makes the
// garbage collector remove them.
func MakeForDeleted(endpoints *corev1.Endpoints) Plan {
	if endpoints == nil || isLock(endpoints) {
		return Plan{}
	}
	return Plan{Writes: []Write{{Delete, Removals, endpoints}}}
}

// SelectsPods says whether the controllers publish endpoints for the Service. An
// ExternalName has none, and without selector they are somebody else's.
func SelectsPods(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && len(svc.Spec.Selector) > 0
}

// planner collects a Plan.
type planner struct {
	Input
	maxPerSlice int
	plan        Plan
	trigger     trigger
	// reported holds the fields that have a problem already: the same pod is
	// looked at once per family.
	reported map[string]bool
	// owners has the pod that has it for each address that several claim.
	owners map[string]*corev1.Pod
	// served has the pods that isServed knows; nil until it is asked.
	served map[types.UID]bool
}

// node returns what is known of the Node that a pod runs on.
//
// Whether a marked pod was served, and has been since, is read from what is
// published, which outlives any leader: once it was taken out because its node was
// dead, it is its kubelet's turn to say that it is back, not the node's.
func (p *planner) node(pod *corev1.Pod) verdict.Node {
	_, known := p.Zones[pod.Spec.NodeName]
	dead := p.Dead[pod.Spec.NodeName]
	trusted := known && !dead && verdict.Marked(pod) && p.isServed(pod.UID)
	return verdict.Node{Known: known, Trusted: trusted, Dead: dead, Failed: p.Failed[pod.Spec.NodeName], Untold: !p.TellsPods}
}

// isServed says whether a pod is published as one that can be sent to.
func (p *planner) isServed(pod types.UID) bool {
	if p.served == nil {
		p.served = map[types.UID]bool{}
		for _, s := range p.Slices {
			for i := range s.Endpoints {
				if e := &s.Endpoints[i]; e.TargetRef != nil && isServing(e) {
					p.served[e.TargetRef.UID] = true
				}
			}
		}
		if p.Input.Endpoints != nil {
			for i := range p.Input.Endpoints.Subsets {
				for _, a := range p.Input.Endpoints.Subsets[i].Addresses {
					if a.TargetRef != nil {
						p.served[a.TargetRef.UID] = true
					}
				}
			}
		}
	}
	return p.served[pod]
}

func (p *planner) add(verb Verb, phase Phase, o Object) {
	p.plan.Writes = append(p.plan.Writes, Write{verb, phase, o})
}

func (p *planner) problem(field, message string) {
	if p.reported[field] {
		return
	}
	if p.reported == nil {
		p.reported = map[string]bool{}
	}
	p.reported[field] = true
	p.plan.Problems = append(p.plan.Problems, model.Problem{Field: field, Message: message})
}
