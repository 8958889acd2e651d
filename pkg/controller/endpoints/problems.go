package endpoints

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/model"
)

// problems tells of what keeps pods out of a Service, or hints off its endpoints,
// once for each change.
type problems struct {
	recorder Recorder
	log      *slog.Logger

	mu    sync.Mutex
	known map[about]string
}

// about is one thing to tell of a Service: the reason of the Event.
type about struct {
	key    key
	reason string
}

const (
	incomplete = "EndpointsIncomplete"
	// hintsDisabled is the stock controllers' word for it.
	hintsDisabled = "TopologyAwareHintsDisabled"
)

// mostTold is how many problems of one Service are told.
const mostTold = 3

func (p *problems) report(k key, svc *corev1.Service, made plan.Plan) {
	p.tell(about{k, incomplete}, svc, "part of a Service cannot be published", describe(made.Problems))
	p.tell(about{k, hintsDisabled}, svc, "a Service gets no topology hints", messages(made.Unhinted))
}

func (p *problems) tell(what about, svc *corev1.Service, summary, text string) {
	if !p.changed(what, text) || text == "" {
		return
	}
	p.log.Info(summary, "service", what.key.String(), "problems", text)
	if p.recorder != nil {
		p.recorder.Eventf(svc, corev1.EventTypeWarning, what.reason, "%s", text)
	}
}

func (p *problems) changed(what about, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[what] == text {
		return false
	}
	if p.known == nil {
		p.known = map[about]string{}
	}
	p.known[what] = text
	if text == "" {
		delete(p.known, what)
	}
	return true
}

func (p *problems) forget(k key) {
	p.changed(about{k, incomplete}, "")
	p.changed(about{k, hintsDisabled}, "")
}

// messages are the texts alone: there is only one field that they can be about.
func messages(all []model.Problem) string {
	var told []string
	for _, problem := range all {
		told = append(told, problem.Message)
	}
	return strings.Join(told, "; ")
}

func describe(all []model.Problem) string {
	var told []string
	for _, problem := range all[:min(len(all), mostTold)] {
		told = append(told, problem.String())
	}
	if more := len(all) - mostTold; more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, "; ")
}
