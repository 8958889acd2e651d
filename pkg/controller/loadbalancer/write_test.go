package loadbalancer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
)

// summary is a change in few words.
type summary struct {
	Ingress   []string // nil: not written
	Condition string
	Since     time.Time
	Drop      bool
	Wait      time.Duration
}

func summaryOf(ch change) summary {
	out := summary{Drop: ch.drop, Wait: ch.wait}
	if ch.ingress {
		out.Ingress = []string{}
		for _, at := range ch.addresses {
			out.Ingress = append(out.Ingress, at.String())
		}
	}
	if c := ch.condition; c != nil {
		out.Condition, out.Since = string(c.Status)+" "+c.Reason+" "+c.Message, c.LastTransitionTime.Time
	}
	return out
}

func TestChangeOf(t *testing.T) {
	made := time.Unix(1000, 0)
	now := made.Add(10 * time.Second)
	service := func(address string, conditions ...metav1.Condition) *corev1.Service {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "u", CreationTimestamp: metav1.NewTime(made)}}
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		if address != "" {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address, IPMode: new(corev1.LoadBalancerIPModeVIP)}}
		}
		svc.Status.Conditions = append([]metav1.Condition{{Type: "other"}}, conditions...)
		return svc
	}
	condition := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionAddressAssigned, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(made)}
	}
	ordinary := func(svc *corev1.Service) *corev1.Service {
		svc.Spec.Type = corev1.ServiceTypeClusterIP
		return svc
	}
	has := pool.Verdict{UID: "u", Ours: true, Satisfied: true, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Reason: "Assigned", Message: "m"}
	none := pool.Verdict{UID: "u", Ours: true, Reason: "NoPool", Message: "n"}
	foreign := pool.Verdict{UID: "u", Reason: "UnknownClass", Message: "c"}
	good := condition(metav1.ConditionTrue, "Assigned", "m")
	tests := []struct {
		name    string
		svc     *corev1.Service
		verdict *pool.Verdict
		now     time.Time
		want    summary
	}{
		{"undecided", service("192.0.2.9"), nil, now, summary{}},
		{"decided about one of that name before", service(""), &pool.Verdict{UID: "v", Ours: true, Reason: "NoPool"}, now, summary{}},
		{"a new address", service(""), &has, now, summary{Ingress: []string{"192.0.2.1"}, Condition: "True Assigned m", Since: now}},
		{"all is well", service("192.0.2.1", good), &has, now, summary{}},
		{"another address", service("192.0.2.2", good), &has, now, summary{Ingress: []string{"192.0.2.1"}}},
		{"no address", service("192.0.2.2", good), &none, now, summary{Ingress: []string{}, Condition: "False NoPool n", Since: now}},
		{
			"not the address that it asks for", service("192.0.2.1", good),
			&pool.Verdict{UID: "u", Ours: true, Addresses: has.Addresses, Reason: "AddressTaken", Message: "t"}, now,
			summary{Condition: "True AddressTaken t", Since: made},
		},
		{"another reason, as before", service("", condition(metav1.ConditionFalse, "PoolExhausted", "n")), &none, now, summary{Condition: "False NoPool n", Since: made}},
		{"no load balancer", ordinary(service("")), nil, now, summary{}},
		{"no load balancer any more", ordinary(service("", good)), nil, now, summary{Drop: true}},
		{"no load balancer any more, with its address", ordinary(service("192.0.2.1", good)), nil, now, summary{Ingress: []string{}, Drop: true}},
		{"of others, young", service(""), &foreign, now, summary{Wait: 20 * time.Second}},
		{"of others, and nobody comes", service(""), &foreign, made.Add(time.Minute), summary{Condition: "False UnknownClass c", Since: made.Add(time.Minute)}},
		{"of others, who have come", service("192.0.2.1", condition(metav1.ConditionFalse, "UnknownClass", "c")), &pool.Verdict{UID: "u"}, now, summary{Drop: true}},
		{"of others", service("192.0.2.1"), &pool.Verdict{UID: "u"}, now, summary{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v pool.Verdict
			if tt.verdict != nil {
				v = *tt.verdict
			}
			if diff := cmp.Diff(tt.want, summaryOf(changeOf(tt.svc, v, tt.verdict != nil, tt.now))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
