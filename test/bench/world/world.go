package world

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

// Namespace is where it all is.
const Namespace = "bench"

const (
	nodeCount = 50
	// inParallel is how many requests make the cluster.
	inParallel = 16
)

// Shape is what a cluster looks like.
type Shape struct{ Services, PodsEach int }

// String is like 2000 × 5.
func (s Shape) String() string { return fmt.Sprintf("%d × %d", s.Services, s.PodsEach) }

// World is a cluster that exists in the API only.
type World struct {
	client.WithWatch
	Server *apiserver.Server
	Shape  Shape
	Pods   []*Pod
}

// Pod is a pod of a World.
type Pod struct {
	Name string
	IP   string
	// Ready is what WriteStatus writes.
	Ready bool
}

// New makes the cluster, with all pods ready.
func New(ctx context.Context, server *apiserver.Server, s Shape) (*World, error) {
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are deprecated is known
	config.ContentType = runtime.ContentTypeProtobuf
	c, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		return nil, err
	}
	w := &World{WithWatch: c, Server: server, Shape: s}
	if err := w.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}); err != nil {
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
	for i := range s.Services {
		group.Go(func() error { return w.Create(ctx, service(i)) })
		for range s.PodsEach {
			n := len(w.Pods)
			p := &Pod{Name: fmt.Sprintf("pod-%d", n), IP: fmt.Sprintf("10.%d.%d.%d", 1+n/62500, n/250%250, n%250+1), Ready: true}
			w.Pods = append(w.Pods, p)
			group.Go(func() error { return w.create(ctx, i, n, p) })
		}
	}
	return w, group.Wait()
}

func service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: fmt.Sprint("service-", i)},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": fmt.Sprint("app-", i)}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func (w *World) create(ctx context.Context, app, n int, p *Pod) error {
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: p.Name, Labels: map[string]string{"app": fmt.Sprint("app-", app)}},
		Spec:       corev1.PodSpec{NodeName: fmt.Sprint("node-", n%nodeCount), Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	if err := w.Create(ctx, o); err != nil {
		return err
	}
	return w.WriteStatus(ctx, p)
}

// WriteStatus writes what the pod is, as its kubelet would.
func (w *World) WriteStatus(ctx context.Context, p *Pod) error {
	status := corev1.ConditionFalse
	if p.Ready {
		status = corev1.ConditionTrue
	}
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%[1]q,"podIPs":[{"ip":%[1]q}],"conditions":[`+
		`{"type":"ContainersReady","status":%[2]q,"lastTransitionTime":%[3]q},{"type":"Ready","status":%[2]q,"lastTransitionTime":%[3]q}]}}`,
		p.IP, status, time.Now().UTC().Format(time.RFC3339))
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: p.Name}}
	return w.Status().Patch(ctx, o, client.RawPatch(types.StrategicMergePatchType, []byte(patch)))
}

// Clear removes what a contender has published, and makes all pods ready again.
func (w *World) Clear(ctx context.Context) error {
	for _, o := range []client.Object{&discoveryv1.EndpointSlice{}, &corev1.Endpoints{}} {
		if err := w.DeleteAllOf(ctx, o, client.InNamespace(Namespace)); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for _, p := range w.Pods {
		if !p.Ready {
			p.Ready = true
			group.Go(func() error { return w.WriteStatus(ctx, p) })
		}
	}
	return group.Wait()
}

// Order returns all pods in an order of chance, the same in each run.
func (w *World) Order() []*Pod {
	out := make([]*Pod, len(w.Pods))
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(len(w.Pods)) {
		out[i] = w.Pods[j]
	}
	return out
}
