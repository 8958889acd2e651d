package verdict

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// String says the verdict in words: why the pod is where it is.
func (v Verdict) String() string {
	text := v.words()
	if v.Detail != "" {
		text += ": " + v.Detail
	}
	return text
}

func (v Verdict) words() string {
	switch v.Reason {
	case Ready:
		return "ready"
	case NodeSilent:
		return "served on, though its node was not heard of for a while"
	case Programming:
		return "waits only for the nodes to send to it"
	case PublishedNotReady:
		return "not ready or terminating, but the Service publishes such pods"
	case ServesWhileTerminating:
		return "terminates and still serves"
	case Terminating:
		return "terminates and is not ready"
	case Finished:
		return "its phase is " + v.Subject
	case NoAddress:
		return "has no address yet"
	case NoAddressOfFamily:
		return "has no " + v.Subject + " address"
	case AddressTaken:
		return "its address is that of the later pod " + v.Subject
	case Truncated:
		return "the Endpoints object has no room for it"
	case NodeUnknown:
		return fmt.Sprintf("there is no Node %q", v.Subject)
	case NodeDead:
		return fmt.Sprintf("node %s is dead", v.Subject)
	case NoPort:
		return "no container has a port named " + strings.Join(v.MissingPorts, " or ")
	case GateNotTrue:
		return "readiness gate " + v.Subject
	case ContainerNotReady:
		return "container " + v.Subject
	case Initializing:
		return "init container " + v.Subject
	case NotReady:
		return "not ready"
	}
	return string(v.Reason)
}

// Of is a pod, by its name, and the verdict on it.
type Of struct {
	Pod string
	Verdict
}

// The reasons for a Service to have no usable endpoint.
const (
	// NoPodSelected: the selector matches no pod.
	NoPodSelected = "NoPodSelected"
	// NoPodReady: it matches pods, and none of them can be sent to.
	NoPodReady = "NoPodReady"
)

// mostTold is how many things of one kind a text names.
const mostTold = 3

// WhyUnusable says in words why a Service with that selector, which selects these
// pods and nearly selects those, has no usable endpoint. The result does not
// depend on the order of its input.
func WhyUnusable(selector map[string]string, pods []Of, near []NearMiss) (reason, message string) {
	if len(pods) > 0 {
		return NoPodReady, fmt.Sprintf("%s selected, none ready: %s", count(len(pods)), grouped(pods))
	}
	message = "selector " + selectorText(selector) + " matches no pod"
	near = slices.SortedFunc(slices.Values(near), func(a, b NearMiss) int { return strings.Compare(a.Pod, b.Pod) })
	for _, n := range near[:min(len(near), mostTold)] {
		message += "; " + n.String()
	}
	return NoPodSelected, message
}

func count(pods int) string {
	if pods == 1 {
		return "1 pod"
	}
	return fmt.Sprint(pods, " pods")
}

// grouped says each reason once, with the pods that it holds for: the most
// frequent first.
func grouped(pods []Of) string {
	byText := map[string][]string{}
	for _, p := range pods {
		byText[p.String()] = append(byText[p.String()], p.Pod)
	}
	texts := make([]string, 0, len(byText))
	for text := range byText {
		slices.Sort(byText[text])
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int {
		if d := len(byText[b]) - len(byText[a]); d != 0 {
			return d
		}
		return strings.Compare(byText[a][0], byText[b][0])
	})
	told := make([]string, 0, mostTold+1)
	for _, text := range texts[:min(len(texts), mostTold)] {
		who := byText[text][0]
		if more := len(byText[text]) - 1; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}
		told = append(told, who+": "+text)
	}
	if more := len(texts) - mostTold; more > 0 {
		told = append(told, fmt.Sprintf("and %d other reasons", more))
	}
	return strings.Join(told, "; ")
}

func selectorText(selector map[string]string) string {
	var out []string
	for name, value := range selector {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// Explanation is whether a Service has an endpoint that new connections go to and,
// if not, why.
type Explanation struct {
	Service *corev1.Service
	Usable  bool
	// Reason and Message are as WhyUnusable returns them; empty if Usable.
	Reason, Message string
}
