package backends

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// tell writes the condition of a Service, if it is another one, and makes an Event.
func (c *Controller) tell(ctx context.Context, k ledger.Key) {
	switch err := c.tellOf(ctx, k); {
	case err == nil:
		c.telling.Forget(k)
		return
	case ctx.Err() != nil:
		return // the term is over
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		c.log.Debug("condition of a Service not written yet", "service", k.String(), "error", err)
	default:
		c.log.Warn("condition of a Service not written, trying again", "service", k.String(), "error", err)
	}
	c.telling.AddRateLimited(k)
}

func (c *Controller) tellOf(ctx context.Context, k ledger.Key) error {
	svc := &corev1.Service{}
	switch err := c.options.Shared.Get(ctx, k, svc); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read Service %v: %w", k, err)
	}
	c.mu.Lock()
	says, something := wordOf(svc, c.services[k])
	c.mu.Unlock()
	something = something && !c.options.Retire
	was := conditionOf(svc)
	switch {
	case !something && (was == nil || v1alpha1.WantsBackends(svc.Annotations) && !c.options.Retire):
		return nil
	case something && was != nil && was.Status == says.status && was.Reason == says.reason && was.Message == says.message:
		return nil
	}
	if err := c.limit.Wait(ctx); err != nil {
		return err
	}
	var condition *metav1.Condition // nil takes it away
	if something {
		condition = &metav1.Condition{
			Type: v1alpha1.ConditionBackendsHealthy, Status: says.status, Reason: says.reason, Message: says.message,
			LastTransitionTime: metav1.NewTime(time.Now()),
		}
		if was != nil && was.Status == says.status {
			condition.LastTransitionTime = was.LastTransitionTime
		}
	}
	if err := c.patch(ctx, svc, condition); err != nil {
		return err
	}
	c.event(svc, was, condition)
	return nil
}

// event tells of what somebody may have to know: what is wrong, and that it is so no
// more.
func (c *Controller) event(svc *corev1.Service, was, is *metav1.Condition) {
	if is == nil || is.Status == metav1.ConditionUnknown || is.Status == metav1.ConditionTrue && (was == nil || was.Status != metav1.ConditionFalse) {
		return
	}
	if is.Reason == v1alpha1.ReasonBackendsNone && was == nil {
		return // a Service is often made before its backends
	}
	c.log.Info("external backends of a Service", "service", client.ObjectKeyFromObject(svc).String(), "reason", is.Reason, "message", is.Message)
	kind := corev1.EventTypeWarning
	if is.Status == metav1.ConditionTrue {
		kind = corev1.EventTypeNormal
	}
	if c.options.Recorder != nil {
		c.options.Recorder.Eventf(svc, kind, is.Reason, "%s", is.Message)
	}
}

// patch writes the condition of a Service, or takes it away if it is nil. It is
// refused if the Service is not the one that was looked at, or has changed since.
func (c *Controller) patch(ctx context.Context, svc *corev1.Service, condition *metav1.Condition) error {
	ctx, cancel := context.WithTimeout(ctx, ledger.RequestTimeout)
	defer cancel()
	conditions := []any{map[string]any{"$patch": "delete", "type": v1alpha1.ConditionBackendsHealthy}}
	if condition != nil {
		conditions = []any{condition}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID, "resourceVersion": svc.ResourceVersion},
		"status":   map[string]any{"conditions": conditions},
	})
	if err != nil {
		return err
	}
	at := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	if err := c.options.Client.Status().Patch(ctx, at, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}
