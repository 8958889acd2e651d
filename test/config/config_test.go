package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

const (
	defaultDir = "../../config/default"
	samplesDir = "../../config/samples"
)

func manifests(t *testing.T, dir string) []runtime.Object {
	t.Helper()
	objects, err := Manifests(dir)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// all returns the objects of one kind.
func all[T runtime.Object](objects []runtime.Object) []T {
	var out []T
	for _, o := range objects {
		if x, ok := o.(T); ok {
			out = append(out, x)
		}
	}
	return out
}

// only returns the one object of a kind.
func only[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	found := all[T](objects)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

// TestEveryFileIsUsed holds that no manifest lies about that is never applied.
func TestEveryFileIsUsed(t *testing.T) {
	for _, dir := range []string{defaultDir, samplesDir} {
		manifests(t, dir)
		text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if base := filepath.Base(f); base != "kustomization.yaml" && !strings.Contains(string(text), "- "+base+"\n") {
				t.Errorf("%s is not among the resources of its kustomization.yaml", f)
			}
		}
	}
}

// TestConfigMapHoldsTheDefaults holds that the file says what it claims: every
// value in it is the default.
func TestConfigMapHoldsTheDefaults(t *testing.T) {
	got, err := v1alpha1.Parse([]byte(only[*corev1.ConfigMap](t, manifests(t, defaultDir)).Data["config.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v1alpha1.Default(), got); diff != "" {
		t.Errorf("(-default +file):\n%s", diff)
	}
}

// TestRightsAreReasoned holds that the roles grant what Rights has a reason
// for, and nothing else.
func TestRightsAreReasoned(t *testing.T) {
	var want, got []string
	for _, r := range Rights() {
		if r.Why == "" {
			t.Errorf("%s: %s %s has no reason", r.Role, r.Group, r.Resource)
		}
		want = append(want, lines(r.Role, rbacv1.PolicyRule{APIGroups: []string{r.Group}, Resources: []string{r.Resource}, ResourceNames: names(r.Name), Verbs: r.Verbs})...)
	}
	objects := manifests(t, defaultDir)
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		for _, rule := range role.Rules {
			got = append(got, lines(role.Name, rule)...)
		}
	}
	for _, role := range all[*rbacv1.Role](objects) {
		for _, rule := range role.Rules {
			got = append(got, lines(role.Name, rule)...)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("role: group/resource name verb (-Rights +config/default):\n%s", diff)
	}
}

func names(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// lines writes each single right of a rule as a line.
func lines(role string, rule rbacv1.PolicyRule) []string {
	var out []string
	for _, g := range rule.APIGroups {
		for _, r := range rule.Resources {
			for _, v := range rule.Verbs {
				out = append(out, role+": "+g+"/"+r+" "+strings.Join(rule.ResourceNames, ",")+" "+v)
			}
		}
	}
	for _, u := range rule.NonResourceURLs {
		out = append(out, role+": "+u+" "+strings.Join(rule.Verbs, ","))
	}
	return out
}

// TestRolesAreBound holds that each role is bound to the DaemonSet's account,
// and to nobody else.
func TestRolesAreBound(t *testing.T) {
	objects := manifests(t, defaultDir)
	account := only[*corev1.ServiceAccount](t, objects)
	daemon := only[*appsv1.DaemonSet](t, objects)
	if got := daemon.Spec.Template.Spec.ServiceAccountName; got != account.Name || daemon.Namespace != account.Namespace {
		t.Errorf("the DaemonSet runs as %s/%s, want %s/%s", daemon.Namespace, got, account.Namespace, account.Name)
	}
	bound := map[rbacv1.RoleRef][]rbacv1.Subject{}
	for _, b := range all[*rbacv1.ClusterRoleBinding](objects) {
		bound[b.RoleRef] = append(bound[b.RoleRef], b.Subjects...)
	}
	for _, b := range all[*rbacv1.RoleBinding](objects) {
		bound[b.RoleRef] = append(bound[b.RoleRef], b.Subjects...)
	}
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name}
		if diff := cmp.Diff(want, bound[ref]); diff != "" {
			t.Errorf("ClusterRole %s (-want +bound):\n%s", role.Name, diff)
		}
	}
	for _, role := range all[*rbacv1.Role](objects) {
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name}
		if diff := cmp.Diff(want, bound[ref]); diff != "" {
			t.Errorf("Role %s (-want +bound):\n%s", role.Name, diff)
		}
	}
}

// TestPartsFitTogether holds that the manifests agree with each other and with
// the configuration.
func TestPartsFitTogether(t *testing.T) {
	objects := manifests(t, defaultDir)
	cfg := v1alpha1.Default()
	daemon := only[*appsv1.DaemonSet](t, objects)
	service := only[*corev1.Service](t, objects)
	if got := service.Namespace + "/" + service.Name; got != cfg.DNS.Service {
		t.Errorf("the DNS Service is %s, the configuration has %s", got, cfg.DNS.Service)
	}
	if diff := cmp.Diff(daemon.Spec.Template.Labels, service.Spec.Selector); diff != "" {
		t.Errorf("the Service selects other pods than the DaemonSet's (-pods +selector):\n%s", diff)
	}
	for _, p := range service.Spec.Ports {
		if p.Port != 53 || p.TargetPort.IntValue() != cfg.DNS.PeerPort {
			t.Errorf("port %s: %d to %s, want 53 to %d", p.Name, p.Port, p.TargetPort.String(), cfg.DNS.PeerPort)
		}
	}
	pod := daemon.Spec.Template.Spec
	config := only[*corev1.ConfigMap](t, objects)
	if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil && v.ConfigMap.Name == config.Name }) {
		t.Errorf("the DaemonSet does not mount the ConfigMap %s", config.Name)
	}
}

// TestDaemonSetIsConfined holds what the daemon may do on its node: to loosen
// it is a decision, not an accident.
func TestDaemonSetIsConfined(t *testing.T) {
	pod := only[*appsv1.DaemonSet](t, manifests(t, defaultDir)).Spec.Template.Spec
	if pod.HostPID || pod.HostIPC {
		t.Error("it sees the processes of its node")
	}
	allowed := map[string][]corev1.Capability{
		"signpost":       {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"},
		"route-localnet": nil,
	}
	for _, c := range append(slices.Clone(pod.Containers), pod.InitContainers...) {
		add, known := allowed[c.Name]
		if !known {
			t.Errorf("container %s is not expected", c.Name)
		}
		want := &corev1.SecurityContext{
			RunAsUser:                new(int64),
			AllowPrivilegeEscalation: new(bool),
			ReadOnlyRootFilesystem:   new(true),
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: add},
		}
		if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
			t.Errorf("container %s (-want +got):\n%s", c.Name, diff)
		}
	}
	var paths []string
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
	}
	want := []string{"/proc/sys/net/ipv4/conf/all/route_localnet", "/run/xtables.lock"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("files of the node (-want +got):\n%s", diff)
	}
}

// TestSamplesFitTogether holds that each Service of the samples selects the
// pods of one Deployment, at a port that they have.
func TestSamplesFitTogether(t *testing.T) {
	objects := manifests(t, samplesDir)
	services := all[*corev1.Service](objects)
	if len(services) != 7 {
		t.Errorf("%d Services, want a plain one, a headless one, a NodePort one, a load balancer, one of pods that wait, and two of external backends", len(services))
	}
	external := 0
	services = slices.DeleteFunc(services, func(s *corev1.Service) bool {
		if len(s.Spec.Selector) > 0 {
			return false
		}
		external++
		if request, ok := check.Read(s); !ok || len(request.Problems) > 0 || request.Check == nil {
			t.Errorf("Service %s: %+v", s.Name, request)
		}
		return true
	})
	if external != 2 {
		t.Errorf("%d Services have external backends, want two", external)
	}
	gated := 0
	for _, s := range services {
		selected := 0
		for _, d := range all[*appsv1.Deployment](objects) {
			pod := d.Spec.Template
			if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				continue
			}
			selected++
			gated += len(pod.Spec.ReadinessGates)
			for _, p := range s.Spec.Ports {
				if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool { return c.Name == p.TargetPort.String() }) {
					t.Errorf("Service %s: the pods have no port %s", s.Name, p.TargetPort.String())
				}
			}
			for _, g := range pod.Spec.ReadinessGates {
				if g.ConditionType != verdict.ProgrammedGate {
					t.Errorf("Deployment %s has the gate %s, which nobody opens", d.Name, g.ConditionType)
				}
			}
		}
		if selected != 1 {
			t.Errorf("Service %s selects the pods of %d Deployments", s.Name, selected)
		}
	}
	if gated != 1 {
		t.Errorf("%d Services have pods that wait, want one", gated)
	}
}
