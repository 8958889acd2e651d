package apitest

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// Tenant is a test with a namespace of its own. What goes wrong ends the test.
type Tenant struct {
	*testing.T
	client.Client
	// Config is of a client without a limit of its own.
	Config    *rest.Config
	Namespace string
}

// NewTenant makes a namespace that is called as the test, with the suffix.
func NewTenant(t *testing.T, server *apiserver.Server, suffix string) *Tenant {
	t.Helper()
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are deprecated is known
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &Tenant{T: t, Client: c, Config: config, Namespace: "test-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + suffix}
	w.Make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}})
	return w
}

// Logger writes to the test's output.
func (w *Tenant) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.Output(), nil)) }

// Make creates an object.
func (w *Tenant) Make(o client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), o); err != nil {
		w.Fatalf("make %T %s: %v", o, o.GetName(), err)
	}
}

// Merge patches an object by a JSON merge patch.
func (w *Tenant) Merge(o client.Object, patch string) {
	w.Helper()
	if err := w.Patch(w.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch %s: %v", o.GetName(), err)
	}
}

// MergeStatus patches an object's status by a strategic merge patch, as kubelets do.
func (w *Tenant) MergeStatus(o client.Object, patch string) {
	w.Helper()
	if err := w.Status().Patch(w.Context(), o, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch the status of %s: %v", o.GetName(), err)
	}
}

// Remove deletes an object, if it is there.
func (w *Tenant) Remove(o client.Object, opts ...client.DeleteOption) {
	w.Helper()
	if err := client.IgnoreNotFound(w.Delete(w.Context(), o, opts...)); err != nil {
		w.Fatalf("delete %s: %v", o.GetName(), err)
	}
}

// Eventually waits for 20 s at most until ok.
func (w *Tenant) Eventually(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not in time: %s", what)
		}
	}
}

// StartCache starts a cache, and returns it with what stops it and waits.
func (w *Tenant) StartCache(o cache.Options) (cache.Cache, func()) {
	w.Helper()
	c, err := cache.New(w.Config, o)
	if err != nil {
		w.Fatal(err)
	}
	return c, w.Start(c.Start)
}

// Start runs something, and returns what stops it and waits; the end of the test
// does so too.
func (w *Tenant) Start(run ...func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	for _, r := range run {
		g.Go(func() error { return r(ctx) })
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := g.Wait(); err != nil {
			w.Error(err)
		}
	}
	w.Cleanup(stop)
	return stop
}
