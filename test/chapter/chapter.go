package chapter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Step is one thing that the chapter shows.
type Step struct {
	// Name identifies the step, Title says what it shows.
	Name, Title string
	// run returns what was found, in a line.
	run func(context.Context, *walk) (string, error)
}

// Result is what came of a Step.
type Result struct {
	Step Step
	// Finding says in a line what was seen. Empty if Err is set.
	Finding string
	// Transcript holds the commands and what they printed.
	Transcript string
	Took       time.Duration
	// Err says what was not as the chapter has it.
	Err error
}

// Steps returns the steps in their order.
func Steps() []Step {
	return []Step{
		{"prepare", "A pod to look from", prepare},
		{"deploy", "Create a Deployment, scale it to 3, expose it", deploy},
		{"services", "The Service has an address", services},
		{"endpoints", "Its endpoints are the pods", endpoints},
		{"names", "Its name leads to its address", names},
		{"traffic", "Sixty requests reach all three pods", traffic},
		{"readiness", "A pod that is not ready gets nothing", readiness},
		{"nodeport", "From outside, over both nodes", nodePort},
		{"kubernetes", "The API server is a Service too", kubernetesService},
		{"pending", "A load balancer, and why it is pending", pending},
		{"pool", "A pool gives it an address", pool},
		{"internal", "A load balancer for inside only", internal},
		{"backends", "A backend by hand fails its check and leaves", backends},
		{"clusterip", "An address of one's own choice, for good", chosenIP},
		{"delete", "Without the Service, no name and no address", deleteService},
	}
}

// walk is what the steps of one walk through the chapter share.
type walk struct {
	*lab.Cluster
	// ip is the cluster IP of alpaca-prod, once it has one.
	ip string
}

// Walk runs the steps in order and calls report with the result of each. The
// transcript goes to out as it is made. After a failed step the others are
// still tried: what they show is of use, too.
func Walk(ctx context.Context, c *lab.Cluster, out io.Writer, before func(Step), report func(Result)) {
	w := &walk{Cluster: c}
	for _, step := range Steps() {
		if before != nil {
			before(step)
		}
		var transcript bytes.Buffer
		c.Transcript(io.MultiWriter(out, &transcript))
		begin := time.Now()
		finding, err := step.run(ctx, w)
		took := time.Since(begin)
		c.Transcript(out)
		if err != nil {
			finding = ""
		}
		report(Result{step, finding, transcript.String(), took, err})
	}
}

// sameSet says how got differs from want, both taken as sets.
func sameSet(what string, got, want []string) error {
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	for _, g := range got {
		if count[g]--; count[g] < 0 {
			return fmt.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}
