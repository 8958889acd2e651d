package readiness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

const (
	// requestTimeout bounds each request.
	requestTimeout = 30 * time.Second
	// tellers is how many Services are told of at once.
	tellers = 2
	// mostPerSecond and burst bound what all Services together are told: when
	// all lose their endpoints at once, the server has other things to do.
	mostPerSecond = 20
	burst         = 50
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Explainer says why a Service has no usable endpoint; false if there is no such
// Service. It must be safe for concurrent use.
type Explainer interface {
	Explain(service types.NamespacedName) (verdict.Explanation, bool)
}

// TellerOptions are what a Teller is made of.
type TellerOptions struct {
	// Client patches the status of Services.
	Client client.Client
	// Recorder may be nil: no Events.
	Recorder Recorder
	// Conditions says whether to write conditions.
	Conditions bool
	Log        *slog.Logger
}

// Teller tells of Services without usable endpoints, for one term. It is told of
// all Services by Observe, which may be called at any time and from anywhere.
type Teller struct {
	options TellerOptions
	queue   workqueue.TypedDelayingInterface[types.NamespacedName]
	limit   *rate.Limiter

	mu      sync.Mutex
	stories map[types.NamespacedName]*story
}

// NewTeller returns a Teller for one Run.
func NewTeller(o TellerOptions) (*Teller, error) {
	if o.Client == nil || o.Log == nil {
		return nil, errors.New("teller: Client and Log are needed")
	}
	return &Teller{
		options: o,
		queue:   workqueue.NewTypedDelayingQueue[types.NamespacedName](),
		limit:   rate.NewLimiter(mostPerSecond, burst),
		stories: map[types.NamespacedName]*story{},
	}, nil
}

// Observe takes in whether a Service has an endpoint that new connections go to.
// It does not block. Most Services have always had some: they cost a look-up.
func (t *Teller) Observe(svc *corev1.Service, usable bool) {
	k := client.ObjectKeyFromObject(svc)
	if usable && !t.knows(k) {
		if c := conditionOf(svc); !t.options.Conditions || c == nil || c.Status == metav1.ConditionTrue {
			return
		}
	}
	t.queue.Add(k)
}

func (t *Teller) knows(k types.NamespacedName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stories[k] != nil
}

// Run tells until ctx is done, and returns nil then. It must be called once.
func (t *Teller) Run(ctx context.Context, why Explainer) error {
	defer t.queue.ShutDown()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		t.queue.ShutDown()
		return nil
	})
	for range tellers {
		g.Go(func() error {
			for {
				k, quit := t.queue.Get()
				if quit || ctx.Err() != nil {
					return nil
				}
				t.handle(ctx, why, k)
				t.queue.Done(k)
			}
		})
	}
	return g.Wait()
}

// handle does what is to do about one Service. The queue gives each to one
// worker at a time.
func (t *Teller) handle(ctx context.Context, why Explainer, k types.NamespacedName) {
	e, exists := why.Explain(k)
	t.mu.Lock()
	s := t.stories[k]
	if s == nil {
		s = &story{}
	}
	var do act
	if exists {
		do = s.next(e, t.options.Conditions, time.Now())
	}
	if !exists || do.forget {
		delete(t.stories, k)
	} else {
		t.stories[k] = s
	}
	t.mu.Unlock()
	if (do.event != "" || do.condition != nil) && t.limit.Wait(ctx) != nil {
		return // the term is over
	}
	if do.event != "" {
		t.options.Log.Info("a Service has no endpoint that can be sent to", "service", k.String(), "why", do.event)
		if t.options.Recorder != nil {
			t.options.Recorder.Eventf(e.Service, corev1.EventTypeWarning, eventReason, "%s", do.event)
		}
	}
	if do.condition != nil {
		if err := t.write(ctx, e.Service, do.condition); err != nil && ctx.Err() == nil {
			t.options.Log.Warn("condition of a Service not written, will try again", "service", k.String(), "error", err)
		}
	}
	if do.again > 0 {
		t.queue.AddAfter(k, do.again)
	}
}

// write patches the one condition. The patch is refused if the Service is not the
// one that was looked at, or has changed since.
func (t *Teller) write(ctx context.Context, svc *corev1.Service, c *metav1.Condition) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID, "resourceVersion": svc.ResourceVersion},
		"status":   map[string]any{"conditions": []*metav1.Condition{c}},
	})
	if err != nil {
		return err
	}
	at := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	err = t.options.Client.Status().Patch(ctx, at, client.RawPatch(types.StrategicMergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // looked at again in writeAgain
	}
	if err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}
