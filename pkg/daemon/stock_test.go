package daemon

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHolderOfTheStockLease(t *testing.T) {
	now := time.Now()
	lease := func(holder string, renewed time.Duration) *coordinationv1.LeaseSpec {
		return &coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: new(int32(15)),
			AcquireTime: &metav1.MicroTime{Time: now.Add(-time.Hour)}, RenewTime: &metav1.MicroTime{Time: now.Add(-renewed)},
		}
	}
	never := lease("x", 0)
	never.RenewTime = nil
	for _, tt := range []struct {
		name  string
		lease *coordinationv1.LeaseSpec
		want  string
	}{
		{"renewed", lease("x", 14*time.Second), "x"},
		{"expired", lease("x", 16*time.Second), ""},
		{"given back", lease("", time.Second), ""},
		{"never renewed", never, ""},
	} {
		if got := holderOf(tt.lease, now); got.holder != tt.want || tt.want != "" && !got.since.Equal(now.Add(-time.Hour)) {
			t.Errorf("%s: held by %+v, want %q", tt.name, got, tt.want)
		}
	}
}

func TestStockWrote(t *testing.T) {
	at := func(minute int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
	}
	fields := []metav1.ManagedFieldsEntry{
		{Manager: "kube-controller-manager", Time: at(3)},
		{Manager: "signpost", Time: at(9)},
		{Manager: "kube-controller-manager", Time: at(5)},
		{Manager: "kubectl", Time: at(8)},
		{Manager: "kube-controller-manager"},
	}
	if got := stockWrote(fields); !got.Equal(at(5).Time) {
		t.Errorf("written at %v, want %v", got, at(5))
	}
	if got := stockWrote(fields[1:2]); !got.IsZero() {
		t.Errorf("what Signpost wrote itself is taken for the stock controllers', at %v", got)
	}
}
