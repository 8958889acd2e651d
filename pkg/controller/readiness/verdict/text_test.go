package verdict

import (
	"slices"
	"testing"
)

func TestWhyUnusable(t *testing.T) {
	probe := Verdict{State: Out, Reason: ContainerNotReady, Subject: "app", Detail: "readiness probe fails"}
	crash := Verdict{State: Out, Reason: ContainerNotReady, Subject: "app", Detail: "CrashLoopBackOff"}
	pull := Verdict{State: Out, Reason: Initializing, Subject: "setup", Detail: "ImagePullBackOff"}
	gate := Verdict{State: Out, Reason: GateNotTrue, Subject: "a/gate", Detail: "no such condition"}
	node := Verdict{State: Out, Reason: NodeUnknown, Subject: "n1"}
	selector := map[string]string{"version": "1", "app": "web"}
	for _, tt := range []struct {
		name   string
		pods   []Of
		near   []NearMiss
		reason string
		want   string
	}{
		{"one pod", []Of{{"web-1", probe}}, nil, NoPodReady, "1 pod selected, none ready: web-1: container app: readiness probe fails"},
		{"equal ones are said once, the many first", []Of{{"web-3", crash}, {"web-1", node}, {"web-2", crash}}, nil, NoPodReady,
			`3 pods selected, none ready: web-2 and 1 more: container app: CrashLoopBackOff; web-1: there is no Node "n1"`},
		{"not all are said", []Of{{"a", probe}, {"b", crash}, {"c", pull}, {"d", gate}, {"e", node}}, nil, NoPodReady,
			"5 pods selected, none ready: a: container app: readiness probe fails; b: container app: CrashLoopBackOff; c: init container setup: ImagePullBackOff; and 2 other reasons"},
		{"no pod", nil, nil, NoPodSelected, "selector app=web,version=1 matches no pod"},
		{"near misses", nil, []NearMiss{{"web-2", "version", "1", "", true}, {"web-1", "version", "1", "2", false}}, NoPodSelected,
			"selector app=web,version=1 matches no pod; pod web-1 differs in label version=2 (want 1); pod web-2 has no label version (want 1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				reason, got := WhyUnusable(selector, tt.pods, tt.near)
				if reason != tt.reason || got != tt.want {
					t.Errorf("%s: %s\nwant %s: %s", reason, got, tt.reason, tt.want)
				}
				slices.Reverse(tt.pods)
				slices.Reverse(tt.near)
			}
		})
	}
}

func TestNear(t *testing.T) {
	type labels = map[string]string
	two := labels{"app": "web", "version": "1"}
	for _, tt := range []struct {
		name     string
		selector labels
		pod      labels
		want     string
	}{
		{"selected", two, labels{"app": "web", "version": "1", "x": "y"}, ""},
		{"another value", two, labels{"app": "web", "version": "2"}, "pod p differs in label version=2 (want 1)"},
		{"no value", two, labels{"app": "web"}, "pod p has no label version (want 1)"},
		{"two labels differ", two, labels{"app": "api", "version": "2"}, ""},
		{"one label, a slip", labels{"app": "web-server"}, labels{"app": "web-sever"}, "pod p differs in label app=web-sever (want web-server)"},
		{"one label, case", labels{"app": "Web"}, labels{"app": "web"}, "pod p differs in label app=web (want Web)"},
		{"one label, a beginning", labels{"app": "web"}, labels{"app": "web-frontend"}, "pod p differs in label app=web-frontend (want web)"},
		{"one label, another letter", labels{"app": "cart"}, labels{"app": "card"}, "pod p differs in label app=card (want cart)"},
		{"one label, something else", labels{"app": "web"}, labels{"app": "database"}, ""},
		{"one label, short ones are never alike", labels{"v": "1"}, labels{"v": "2"}, ""},
		{"one label, none", labels{"app": "web"}, labels{"run": "web"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if miss, ok := Near(tt.selector, "p", tt.pod); ok {
				got = miss.String()
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestEveryReasonHasWords holds that a text never shows a bare constant.
func TestEveryReasonHasWords(t *testing.T) {
	for _, r := range []Reason{Ready, NodeSilent, Programming, PublishedNotReady, ServesWhileTerminating, Terminating, Finished, NoAddress,
		NoAddressOfFamily, AddressTaken, Truncated, NodeUnknown, NodeDead, NoPort, GateNotTrue, ContainerNotReady, Initializing, NotReady} {
		if got := (Verdict{Reason: r}).String(); got == string(r) || got == "" {
			t.Errorf("%s: %q", r, got)
		}
	}
}
