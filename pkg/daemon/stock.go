package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// stock looks for endpoint controllers of kube-controller-manager that are alive.
// Two of a kind would not destroy each other's work, as every write has a
// precondition, but would do all of it twice and correct each other for ever
// wherever Signpost knows better.
//
// The evidence is that somebody holds its Lease now, and that it has written an
// EndpointSlice or Endpoints since it took that Lease. So a controller manager
// that was started anew without these controllers is none, whatever its
// predecessor has written; and one that has had nothing to write since it was
// started is not found, before it writes.
type stock struct {
	client client.Reader
	leases coordinationclient.LeaseInterface
	log    *slog.Logger
	tell   func(message string)
	// endpoints says whether Signpost writes Endpoints itself, managers which
	// EndpointSlices: the values of their label for who manages them.
	endpoints bool
	managers  []string
	// period is the time between two looks.
	period time.Duration

	// clean is the holder that was last found to write nothing, and when.
	clean   incarnation
	cleanAt time.Time
}

// incarnation is one time that a kube-controller-manager leads.
type incarnation struct {
	holder string
	since  time.Time
}

func newStock(conn *connection, events *events, cfg *v1alpha1.SignpostConfiguration, log *slog.Logger) *stock {
	return &stock{
		client: conn.writer, leases: conn.clientset.CoordinationV1().Leases(stockNamespace), log: log,
		endpoints: cfg.Controllers.Endpoints.Enabled, managers: sliceManagers(&cfg.Controllers), period: stockCheckPeriod,
		tell: func(message string) {
			events.Event(&corev1.ObjectReference{
				APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease",
				Namespace: cfg.LeaderElection.ResourceNamespace, Name: cfg.LeaderElection.ResourceName,
			}, corev1.EventTypeWarning, "StockControllersAlive", message)
		},
	}
}

func sliceManagers(c *v1alpha1.Controllers) []string {
	var out []string
	if c.EndpointSlice.Enabled {
		out = append(out, plan.SliceManager)
	}
	if c.EndpointSliceMirroring.Enabled {
		out = append(out, plan.MirrorManager)
	}
	return out
}

const (
	stockLease     = "kube-controller-manager"
	stockNamespace = metav1.NamespaceSystem
	// stockCheckPeriod is the time between two looks at the Lease. At the objects
	// of a holder that was found clean it is cleanFor.
	stockCheckPeriod = 30 * time.Second
	cleanFor         = 10 * time.Minute
	// stockPage is how many objects are looked at per request.
	stockPage = 500
	stockHelp = "the endpoint controllers of kube-controller-manager are alive (%s), so Signpost does not write endpoints: " +
		"start kube-controller-manager with --controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
)

// stockManager says whether a manager of fields is a program that has the stock
// controllers in it.
func stockManager(name string) bool { return name == "kube-controller-manager" || name == "k3s" }

// gone waits until no stock controllers are alive, and says each time that they
// are. It returns false when ctx is done.
func (s *stock) gone(ctx context.Context) bool {
	for {
		evidence, err := s.evidence(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			s.log.Warn("cannot see whether the endpoint controllers of kube-controller-manager are alive", "error", err)
			return true // what we write has preconditions
		case evidence == "":
			return true
		}
		s.log.Error(fmt.Sprintf(stockHelp, evidence), "again", s.period)
		s.tell(fmt.Sprintf(stockHelp, evidence))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(s.period):
		}
	}
}

// come waits until stock controllers are seen, or ctx is done: then it returns false.
func (s *stock) come(ctx context.Context) bool {
	ticker := time.NewTicker(s.period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		if evidence, err := s.evidence(ctx); err == nil && evidence != "" {
			s.log.Warn("other endpoint controllers have come", "evidence", evidence)
			return true
		}
	}
}

// evidence says what shows that stock controllers are alive; empty is that
// nothing does.
func (s *stock) evidence(ctx context.Context) (string, error) {
	lease, err := s.leases.Get(ctx, stockLease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the Lease %s/%s: %w", stockNamespace, stockLease, err)
	}
	leads := holderOf(&lease.Spec, time.Now())
	if leads.holder == "" || leads == s.clean && time.Since(s.cleanAt) < cleanFor {
		return "", nil
	}
	written, err := s.writtenByAny(ctx, leads.since)
	if err != nil || written != "" {
		return written, err
	}
	s.clean, s.cleanAt = leads, time.Now()
	return "", nil
}

// holderOf returns who holds the Lease now, if anybody does.
func holderOf(l *coordinationv1.LeaseSpec, now time.Time) incarnation {
	if l.HolderIdentity == nil || l.RenewTime == nil || l.AcquireTime == nil || l.LeaseDurationSeconds == nil ||
		now.After(l.RenewTime.Add(time.Duration(*l.LeaseDurationSeconds)*time.Second)) {
		return incarnation{}
	}
	return incarnation{*l.HolderIdentity, l.AcquireTime.Time}
}

// writtenByAny names an object that a stock controller has written since then
// and that Signpost writes itself.
func (s *stock) writtenByAny(ctx context.Context, since time.Time) (string, error) {
	slices := discoveryv1.SchemeGroupVersion.WithKind("EndpointSliceList")
	for _, manager := range s.managers {
		written, err := s.written(ctx, slices, since, client.MatchingLabels{discoveryv1.LabelManagedBy: manager})
		if err != nil || written != "" {
			return written, err
		}
	}
	if !s.endpoints {
		return "", nil
	}
	return s.written(ctx, corev1.SchemeGroupVersion.WithKind("EndpointsList"), since)
}

// written names an object of a kind that a stock controller has written since then.
func (s *stock) written(ctx context.Context, kind schema.GroupVersionKind, since time.Time, options ...client.ListOption) (string, error) {
	options = append(options, client.Limit(stockPage))
	for next := ""; ; {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		if err := s.client.List(ctx, list, append(options, client.Continue(next))...); err != nil {
			return "", fmt.Errorf("read the %s: %w", kind.Kind, err)
		}
		for i := range list.Items {
			if at := stockWrote(list.Items[i].ManagedFields); at.After(since) {
				return fmt.Sprintf("%s %s/%s was written by them at %s", strings.TrimSuffix(kind.Kind, "List"),
					list.Items[i].Namespace, list.Items[i].Name, at.UTC().Format(time.RFC3339)), nil
			}
		}
		if next = list.Continue; next == "" {
			return "", nil
		}
	}
}

// stockWrote returns when a stock controller wrote an object last.
func stockWrote(fields []metav1.ManagedFieldsEntry) (at time.Time) {
	for _, f := range fields {
		if stockManager(f.Manager) && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}
