package endpoints

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

// problems tells of what keeps pods out of a Service, once for each change.
type problems struct {
	recorder Recorder
	log      *slog.Logger

	mu    sync.Mutex
	known map[key]string
}

// mostTold is how many problems of one Service are told.
const mostTold = 3

func (p *problems) report(k key, svc *corev1.Service, all []model.Problem) {
	text := describe(all)
	if !p.changed(k, text) || text == "" {
		return
	}
	p.log.Info("part of a Service cannot be published", "service", k.String(), "problems", text)
	if p.recorder != nil {
		p.recorder.Eventf(svc, corev1.EventTypeWarning, "EndpointsIncomplete", "%s", text)
	}
}

func (p *problems) changed(k key, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[k] == text {
		return false
	}
	if p.known == nil {
		p.known = map[key]string{}
	}
	p.known[k] = text
	if text == "" {
		delete(p.known, k)
	}
	return true
}

func (p *problems) forget(k key) { p.changed(k, "") }

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
