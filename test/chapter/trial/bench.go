package trial

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const (
	service   = "alpaca-prod"
	selector  = "app=alpaca-prod"
	client    = "client"
	dnsServer = "10.96.0.10"
	startWait = 90 * time.Second
)

// Bench is config/samples/alpaca-prod in a namespace of its own, and a pod that
// asks it.
type Bench struct {
	*lab.Cluster
	// Namespace is where it all is.
	Namespace string
	// IP is the Service's cluster IP.
	IP string
	// From is the pod that asks.
	From *corev1.Pod
}

const clientManifest = `
apiVersion: v1
kind: Pod
metadata:
  name: ` + client + `
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: toolbox
    image: signpost.dev/toolbox:dev
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
`

// NewBench deploys the sample with that many replicas and waits until all are
// endpoints of the Service. Call Remove in the end.
func NewBench(ctx context.Context, c *lab.Cluster, replicas int) (*Bench, error) {
	// A name of its own each time: the one before may still be going.
	b := &Bench{Cluster: c, Namespace: fmt.Sprintf("trial-%06d", rand.IntN(1_000_000))}
	if err := b.deploy(ctx, replicas); err != nil {
		return nil, errors.Join(err, b.Remove(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (b *Bench) deploy(ctx context.Context, replicas int) error {
	if _, err := b.Kubectl(ctx, "create", "namespace", b.Namespace); err != nil {
		return err
	}
	if _, err := b.Apply(ctx, b.Namespace, clientManifest); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "apply", "-n", b.Namespace, "-f", "config/samples/alpaca-prod.yaml"); err != nil {
		return err
	}
	if err := b.Scale(ctx, replicas); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "wait", "-n", b.Namespace, "--for=condition=Ready", "--timeout="+startWait.String(), "pod/"+client); err != nil {
		return err
	}
	if err := b.AwaitEndpoints(ctx, replicas); err != nil {
		return err
	}
	s, err := b.Client.CoreV1().Services(b.Namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	b.IP = s.Spec.ClusterIP
	b.From, err = b.Client.CoreV1().Pods(b.Namespace).Get(ctx, client, metav1.GetOptions{})
	return err
}

// Remove removes the namespace, and does not wait until it is gone.
func (b *Bench) Remove(ctx context.Context) error {
	_, err := b.Kubectl(ctx, "delete", "namespace", b.Namespace, "--wait=false")
	return err
}

// Scale sets the number of replicas, and does not wait.
func (b *Bench) Scale(ctx context.Context, replicas int) error {
	_, err := b.Kubectl(ctx, "scale", "-n", b.Namespace, "deployment/"+service, fmt.Sprint("--replicas=", replicas))
	return err
}

// AwaitEndpoints waits until the Service has exactly n ready endpoints.
func (b *Bench) AwaitEndpoints(ctx context.Context, n int) error {
	return lab.Eventually(ctx, startWait, func() error {
		list, err := b.Client.DiscoveryV1().EndpointSlices(b.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					ready++
				}
			}
		}
		if ready != n {
			return fmt.Errorf("%s has %d ready endpoints, want %d", service, ready, n)
		}
		return nil
	})
}

// URL is where the Service is reached without a name.
func (b *Bench) URL() string { return "http://" + b.IP + ":8080/" }

// name is how a probe asks the cluster's DNS for a Service.
func (b *Bench) name(service string) string {
	return "dns://" + dnsServer + "/" + service + "." + b.Namespace + ".svc.cluster.local"
}

// Probe asks url from the client pod, rate times per second.
func (b *Bench) Probe(ctx context.Context, url string, rate float64) (*lab.Probe, error) {
	return b.Cluster.Probe(ctx, b.From.Status.PodIP, url, rate)
}

// ProbeName asks the cluster's DNS for the Service from the client pod.
func (b *Bench) ProbeName(ctx context.Context, rate float64) (*lab.Probe, error) {
	return b.Probe(ctx, b.name(service), rate)
}

// Tally is what came of a row of connections.
type Tally struct {
	Total  int
	Failed []lab.Shot
	// Slowest is the longest time that an answer took.
	Slowest time.Duration
	// Gap is the longest time between the begins of two that were answered.
	Gap time.Duration
}

// Count tallies shots that are sorted by their begin.
func Count(shots []lab.Shot) Tally {
	t := Tally{Total: len(shots)}
	var last time.Time
	for _, s := range shots {
		if s.Err != "" {
			t.Failed = append(t.Failed, s)
			continue
		}
		t.Slowest = max(t.Slowest, s.End.Sub(s.Begin))
		if !last.IsZero() {
			t.Gap = max(t.Gap, s.Begin.Sub(last))
		}
		last = s.Begin
	}
	return t
}

// String says it in a line.
func (t Tally) String() string {
	return fmt.Sprintf("%d asked, %d failed, slowest answer %v, longest gap between answers %v",
		t.Total, len(t.Failed), t.Slowest.Round(100*time.Microsecond), t.Gap.Round(100*time.Microsecond))
}

// Reasons counts the failures by what was said in the end, as addresses and ports stand before
// it. A probe writes _ for a space.
func (t Tally) Reasons() map[string]int {
	out := map[string]int{}
	for _, s := range t.Failed {
		reason := s.Err
		if i := strings.LastIndex(reason, ":_"); i >= 0 {
			reason = reason[i+2:]
		}
		out[reason]++
	}
	return out
}
