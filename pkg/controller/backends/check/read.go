package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

// mostNames bounds how many names a Service may have.
const mostNames = 32

// Request is what a Service asks for.
type Request struct {
	// Check is nil if nothing is to be checked.
	Check *Check
	// Names are to be resolved, in lower case, without final dot, sorted, each once.
	Names []string
	// Problems are what cannot be understood, by annotation. If that is about the
	// check, there is none; of several names, those that can be understood count.
	Problems []model.Problem
}

// Read returns what a Service asks for, and false if that is nothing.
func Read(svc *corev1.Service) (Request, bool) {
	if !v1alpha1.WantsBackends(svc.Annotations) {
		return Request{}, false
	}
	if why := unfit(svc); why != "" {
		return Request{Problems: []model.Problem{{Field: "annotation " + firstOf(svc.Annotations), Message: why}}}, true
	}
	r := reader{annotations: svc.Annotations}
	out := Request{Names: r.names()}
	if c := r.check(); len(r.wrong) == 0 {
		out.Check = c
	}
	out.Problems = append(r.wrong, r.wrongNames...)
	return out, true
}

// Publishes says whether Signpost writes EndpointSlices for what a Service asks for.
func Publishes(svc *corev1.Service) bool {
	return v1alpha1.WantsBackends(svc.Annotations) && unfit(svc) == ""
}

// unfit says why a Service has no external backends.
func unfit(svc *corev1.Service) string {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return "a Service of type ExternalName has no backends"
	case len(svc.Spec.Selector) > 0:
		return "the Service has a selector: its pods say by their readiness probes whether they work"
	}
	return ""
}

func firstOf(annotations map[string]string) string {
	for _, a := range slices.Sorted(maps.Keys(annotations)) {
		if a == v1alpha1.AnnotationBackendNames || strings.HasPrefix(a, v1alpha1.AnnotationHealthCheck) {
			return a
		}
	}
	return ""
}

// reader reads annotations and collects what is wrong with them.
type reader struct {
	annotations       map[string]string
	wrong, wrongNames []model.Problem
}

func problem(annotation, format string, args ...any) model.Problem {
	return model.Problem{Field: "annotation " + annotation, Message: fmt.Sprintf(format, args...)}
}

func (r *reader) fail(annotation, format string, args ...any) {
	r.wrong = append(r.wrong, problem(annotation, format, args...))
}

// text returns an annotation, and false if it is not there or empty.
func (r *reader) text(annotation string) (string, bool) {
	s := strings.TrimSpace(r.annotations[annotation])
	return s, s != ""
}

// names returns those that can be resolved.
func (r *reader) names() []string {
	text, ok := r.text(v1alpha1.AnnotationBackendNames)
	if !ok {
		if _, there := r.annotations[v1alpha1.AnnotationBackendNames]; there {
			r.wrongNames = append(r.wrongNames, problem(v1alpha1.AnnotationBackendNames, "it names nothing"))
		}
		return nil
	}
	var out []string
	for name := range strings.SplitSeq(text, ",") {
		name = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 || isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
			r.wrongNames = append(r.wrongNames, problem(v1alpha1.AnnotationBackendNames, "%q is not a DNS name such as db.example.com; addresses go into Endpoints or EndpointSlices", name))
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > mostNames {
		r.wrongNames = append(r.wrongNames, problem(v1alpha1.AnnotationBackendNames, "%d names, of which the first %d count", len(out), mostNames))
		out = out[:mostNames]
	}
	return out
}

// isNumber tells addresses from names: no top level domain is a number.
func isNumber(label string) bool {
	return label != "" && !strings.ContainsFunc(label, func(c rune) bool { return c < '0' || c > '9' })
}
