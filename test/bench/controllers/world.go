package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
)

const (
	namespace = "bench"
	nodeCount = 50
	// inParallel is how many requests make the cluster.
	inParallel = 16
)

// world is a cluster that exists in the API only.
type world struct {
	client.WithWatch
	server *apiserver.Server
	shape  shape
	pods   []*pod
}

type pod struct {
	name  string
	ip    string
	ready bool
}

// newWorld makes the cluster, with all pods ready.
func newWorld(ctx context.Context, server *apiserver.Server, s shape) (*world, error) {
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are deprecated is known
	config.ContentType = runtime.ContentTypeProtobuf
	c, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		return nil, err
	}
	w := &world{WithWatch: c, server: server, shape: s}
	if err := w.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return nil, err
	}
	for i := range nodeCount {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("zone-", i%3)}}}
		if err := w.Create(ctx, n); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i := range s.services {
		group.Go(func() error { return w.Create(ctx, service(i)) })
		for range s.podsEach {
			n := len(w.pods)
			p := &pod{name: fmt.Sprintf("pod-%d", n), ip: fmt.Sprintf("10.%d.%d.%d", 1+n/62500, n/250%250, n%250+1), ready: true}
			w.pods = append(w.pods, p)
			group.Go(func() error { return w.create(ctx, i, n, p) })
		}
	}
	return w, group.Wait()
}

func service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("service-", i)},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": fmt.Sprint("app-", i)}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func (w *world) create(ctx context.Context, app, n int, p *pod) error {
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.name, Labels: map[string]string{"app": fmt.Sprint("app-", app)}},
		Spec:       corev1.PodSpec{NodeName: fmt.Sprint("node-", n%nodeCount), Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	if err := w.Create(ctx, o); err != nil {
		return err
	}
	return w.writeStatus(ctx, p)
}

// writeStatus writes what the pod is, as its kubelet would.
func (w *world) writeStatus(ctx context.Context, p *pod) error {
	status := corev1.ConditionFalse
	if p.ready {
		status = corev1.ConditionTrue
	}
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%[1]q,"podIPs":[{"ip":%[1]q}],"conditions":[`+
		`{"type":"ContainersReady","status":%[2]q,"lastTransitionTime":%[3]q},{"type":"Ready","status":%[2]q,"lastTransitionTime":%[3]q}]}}`,
		p.ip, status, time.Now().UTC().Format(time.RFC3339))
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.name}}
	return w.Status().Patch(ctx, o, client.RawPatch(types.StrategicMergePatchType, []byte(patch)))
}

// clear removes what a contender has published, and makes all pods ready again.
func (w *world) clear(ctx context.Context) error {
	for _, o := range []client.Object{&discoveryv1.EndpointSlice{}, &corev1.Endpoints{}} {
		if err := w.DeleteAllOf(ctx, o, client.InNamespace(namespace)); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for _, p := range w.pods {
		if !p.ready {
			p.ready = true
			group.Go(func() error { return w.writeStatus(ctx, p) })
		}
	}
	return group.Wait()
}

// order returns all pods in an order of chance, the same in each run.
func (w *world) order() []*pod {
	out := make([]*pod, len(w.pods))
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(len(w.pods)) {
		out[i] = w.pods[j]
	}
	return out
}
