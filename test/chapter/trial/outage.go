package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// Outage is what came of stopping the API server for a while.
type Outage struct {
	// HTTP and DNS were asked all the while, from a second before it stopped
	// until two seconds after a new Service worked.
	HTTP, DNS Tally
	// Created is how long after the API server was back (its /readyz said ok)
	// the new Service was created, and Works how long after that its address
	// and its name did. Back to working is the sum.
	Created, Works time.Duration
}

const newService = "after-the-outage"

// Outage stops the API server, waits, starts it again and makes a new Service.
func (b *Bench) Outage(ctx context.Context, length time.Duration, rate float64) (Outage, error) {
	var o Outage
	var err error
	o.HTTP, o.DNS, err = b.during(ctx, rate, func() error {
		if err := b.StopAPIServer(ctx); err != nil {
			return err
		}
		time.Sleep(length)
		// Whatever happened meanwhile, nobody else could use the cluster
		// without it.
		if err := b.StartAPIServer(ctx); err != nil {
			return err
		}
		return o.renew(ctx, b)
	})
	return o, err
}

// renew waits for the API server, and for a Service that is made as soon as it
// is back.
func (o *Outage) renew(ctx context.Context, b *Bench) error {
	const limit = 2 * time.Minute
	err := lab.Eventually(ctx, limit, func() error {
		out, err := b.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil && strings.TrimSpace(string(out)) != "ok" {
			err = fmt.Errorf("/readyz says %q", out)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the API server does not come back: %w", err)
	}
	back := time.Now()
	s, err := b.create(ctx)
	if err != nil {
		return err
	}
	created := time.Now()
	o.Created = created.Sub(back)
	err = b.awaitAnswers(ctx, limit, "http://"+s.Spec.ClusterIP+":8080/", b.name(newService))
	o.Works = time.Since(created)
	return err
}

// create makes a Service over the pods of the sample.
func (b *Bench) create(ctx context.Context) (*corev1.Service, error) {
	return b.Client.CoreV1().Services(b.Namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: newService},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "alpaca-prod"},
			Ports:    []corev1.ServicePort{{Port: 8080, TargetPort: intstr.FromString("http")}},
		},
	}, metav1.CreateOptions{})
}

// awaitAnswers waits until each of the urls has been answered once.
func (b *Bench) awaitAnswers(ctx context.Context, limit time.Duration, urls ...string) error {
	const rate = 50
	var probes []*lab.Probe
	var errs []error
	for _, url := range urls {
		p, err := b.Probe(ctx, url, rate)
		if err != nil {
			errs = append(errs, err)
			break
		}
		probes = append(probes, p)
	}
	for i, p := range probes {
		errs = append(errs, lab.Eventually(ctx, limit, func() error {
			shots := p.Shots()
			if t := Count(shots); t.Total == len(t.Failed) {
				return fmt.Errorf("%s: none of %d times answered: %v", urls[i], t.Total, t.Reasons())
			}
			return nil
		}))
	}
	for _, p := range probes {
		_, err := p.Stop()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
