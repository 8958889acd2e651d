package trial

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const (
	namespace = "signpost-trial"
	service   = "alpaca-prod"
	selector  = "app=alpaca-prod"
	client    = "trial-client"
	hostname  = service + "." + namespace + ".svc.cluster.local"
	dnsServer = "10.96.0.10"
	startWait = 90 * time.Second
)

// Bench is config/samples/alpaca-prod in a namespace of its own, and a pod that
// asks it.
type Bench struct {
	*lab.Cluster
	// IP is the Service's cluster IP.
	IP string
	// From is the pod that asks.
	From *corev1.Pod
}

const clientPod = `
apiVersion: v1
kind: Pod
metadata:
  name: ` + client + `
  namespace: ` + namespace + `
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: toolbox
    image: signpost.dev/toolbox:dev
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
`

const namespaceManifest = `
apiVersion: v1
kind: Namespace
metadata:
  name: ` + namespace

// NewBench deploys the sample with that many replicas and waits until all are
// endpoints of the Service. Call Remove in the end.
func NewBench(ctx context.Context, c *lab.Cluster, replicas int) (*Bench, error) {
	b := &Bench{Cluster: c}
	if _, err := c.Apply(ctx, namespaceManifest); err != nil {
		return nil, err
	}
	if _, err := c.Apply(ctx, clientPod); err != nil {
		return nil, err
	}
	if _, err := c.Kubectl(ctx, "apply", "-n", namespace, "-f", "config/samples/alpaca-prod.yaml"); err != nil {
		return nil, err
	}
	if err := b.Scale(ctx, replicas); err != nil {
		return nil, err
	}
	if _, err := c.Kubectl(ctx, "wait", "-n", namespace, "--for=condition=Ready", "--timeout="+startWait.String(), "pod/"+client); err != nil {
		return nil, err
	}
	if err := b.AwaitEndpoints(ctx, replicas); err != nil {
		return nil, err
	}
	s, err := b.Client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	b.IP = s.Spec.ClusterIP
	b.From, err = b.Client.CoreV1().Pods(namespace).Get(ctx, client, metav1.GetOptions{})
	return b, err
}

// Remove removes the namespace, and does not wait until it is gone.
func (b *Bench) Remove(ctx context.Context) error {
	_, err := b.Kubectl(ctx, "delete", "namespace", namespace, "--wait=false")
	return err
}

// Scale sets the number of replicas, and does not wait.
func (b *Bench) Scale(ctx context.Context, replicas int) error {
	_, err := b.Kubectl(ctx, "scale", "-n", namespace, "deployment/"+service, fmt.Sprint("--replicas=", replicas))
	return err
}

// AwaitEndpoints waits until the Service has exactly n ready endpoints.
func (b *Bench) AwaitEndpoints(ctx context.Context, n int) error {
	return lab.Eventually(ctx, startWait, func() error {
		list, err := b.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
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
			return fmt.Errorf("%s has %d ready endpoints, want %d", hostname, ready, n)
		}
		return nil
	})
}

// URL is where the Service is reached without a name.
func (b *Bench) URL() string { return "http://" + b.IP + ":8080/" }

// Probe asks url from the client pod, rate times per second.
func (b *Bench) Probe(ctx context.Context, url string, rate float64) (*lab.Probe, error) {
	return b.Cluster.Probe(ctx, b.From.Status.PodIP, url, rate)
}

// ProbeName asks the cluster's DNS for the Service from the client pod.
func (b *Bench) ProbeName(ctx context.Context, rate float64) (*lab.Probe, error) {
	return b.Probe(ctx, "dns://"+dnsServer+"/"+hostname, rate)
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

// Reasons counts the failures by what was said.
func (t Tally) Reasons() map[string]int {
	out := map[string]int{}
	for _, s := range t.Failed {
		out[s.Err]++
	}
	return out
}
