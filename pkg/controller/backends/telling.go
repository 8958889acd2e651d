package backends

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/model"
)

// mostNamed is how many backends or problems a message names.
const mostNamed = 5

// word is what there is to say of a Service.
type word struct {
	status          metav1.ConditionStatus
	reason, message string
}

// word returns it; what is the matter most comes first.
func (s *state) word() word {
	problems := s.request.Problems
	var down, unknown []netip.AddrPort
	for _, at := range s.sorted() {
		switch s.backends[at].opinion.State {
		case verdict.Down:
			down = append(down, at)
		case verdict.Unknown:
			unknown = append(unknown, at)
		case verdict.Up:
		}
	}
	all := len(s.backends)
	switch {
	case len(problems) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsInvalid, listed(problems)}
	case len(s.names.failed) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsUnresolved, listed(s.problems)}
	case len(s.problems) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsInvalid, listed(s.problems)}
	case all+s.unchecked == 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsNone, "there are no backends: nothing is in the Endpoints or EndpointSlices of the Service"}
	case s.request.Check == nil:
		return word{metav1.ConditionTrue, v1alpha1.ReasonBackendsNotChecked, fmt.Sprintf("none of %s is checked: there is no annotation %s", count(s.unchecked), v1alpha1.AnnotationHealthCheck)}
	case len(unknown) == all:
		return word{metav1.ConditionUnknown, v1alpha1.ReasonBackendsUnknown, fmt.Sprintf("none of %s has been checked by enough nodes yet; until then all get packets", count(all))}
	case len(s.open) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsFailOpen, fmt.Sprintf("%s, and as none would be left, get packets all the same: %s", failing(len(down), all), s.named(down))}
	case len(down) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsDown, failing(len(down), all) + ": " + s.named(down)}
	case len(unknown) > 0:
		return word{metav1.ConditionUnknown, v1alpha1.ReasonBackendsUnknown, fmt.Sprintf("%d of %s not checked by enough nodes yet", len(unknown), count(all))}
	}
	return word{metav1.ConditionTrue, v1alpha1.ReasonBackendsHealthy, fmt.Sprintf("%d of %s pass the check", all, count(all))}
}

func count(n int) string {
	if n == 1 {
		return "1 backend"
	}
	return fmt.Sprintf("%d backends", n)
}

func failing(n, all int) string { return fmt.Sprintf("%d of %s fail the check", n, count(all)) }

// named lists backends with why they are down.
func (s *state) named(down []netip.AddrPort) string {
	var out []string
	for _, at := range down {
		text := at.String()
		if f := s.backends[at].opinion.Finding; f.State == verdict.Down {
			text += " (" + f.Because() + ")"
		}
		out = append(out, text)
	}
	return joined(out)
}

func listed(problems []model.Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return joined(out)
}

func joined(texts []string) string {
	if more := len(texts) - mostNamed; more > 0 {
		return strings.Join(texts[:mostNamed], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(texts, "; ")
}

// wordOf returns what there is to say of a Service, or false for nothing. s is nil
// for one that gets no slices of ours.
func wordOf(svc *corev1.Service, s *state) (word, bool) {
	request, wants := check.Read(svc)
	switch {
	case !wants:
		return word{}, false
	case s == nil && len(request.Problems) > 0:
		return word{metav1.ConditionFalse, v1alpha1.ReasonBackendsInvalid, listed(request.Problems)}, true
	case s == nil:
		return word{}, false // it is planned for first
	}
	return s.word(), true
}

func conditionOf(svc *corev1.Service) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if svc.Status.Conditions[i].Type == v1alpha1.ConditionBackendsHealthy {
			return &svc.Status.Conditions[i]
		}
	}
	return nil
}
