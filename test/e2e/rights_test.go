//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/signpost-dev/signpost/test/config"
)

const account = "system:serviceaccount:kube-system:signpost"

// TestRights asks the API server, as the DaemonSet's account, what this may do,
// and holds that it is what config.Rights has a reason for: whatever role may
// be bound to it.
func TestRights(t *testing.T) {
	c := cluster(t)
	as := rest.CopyConfig(c.Config)
	as.Impersonate = rest.ImpersonationConfig{
		UserName: account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
	}
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"kube-system", "kube-node-lease", "default"} {
		review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(),
			&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want(namespace), got(review.Status.ResourceRules)); diff != "" {
			t.Errorf("in %s: group/resource name verb (-config.Rights +the API server):\n%s", namespace, diff)
		}
	}
}

// want returns the rights that hold in a namespace: those of a Role do in its own
// only.
func want(namespace string) []string {
	within := map[string]string{"signpost-leader-election": "kube-system", "signpost-leader-nodes": "kube-node-lease"}
	var out []string
	for _, r := range config.Rights() {
		if only, role := within[r.Role]; role && only != namespace {
			continue
		}
		for _, v := range r.Verbs {
			out = append(out, r.Group+"/"+r.Resource+" "+r.Name+" "+v)
		}
	}
	slices.Sort(out)
	return out
}

// got writes rules as want does, without those that every account has: to ask
// about itself.
func got(rules []authorizationv1.ResourceRule) []string {
	var out []string
	for _, r := range rules {
		for _, g := range r.APIGroups {
			if g == "authorization.k8s.io" || g == "authentication.k8s.io" {
				continue
			}
			for _, resource := range r.Resources {
				for _, v := range r.Verbs {
					out = append(out, g+"/"+resource+" "+strings.Join(r.ResourceNames, ",")+" "+v)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestRightsSuffice holds that no daemon has been refused anything: what the
// other tests made it do is within its rights.
func TestRightsSuffice(t *testing.T) {
	c := cluster(t)
	out := ""
	pods, err := c.Client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=signpost"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		logs := []string{"logs", "-n", "kube-system", pod.Name, "-c", "signpost", "--prefix"}
		runs := [][]string{logs}
		for _, s := range pod.Status.ContainerStatuses {
			if s.RestartCount > 0 { // another test has killed it
				runs = append(runs, append(slices.Clone(logs), "--previous"))
			}
		}
		for _, args := range runs {
			text, err := c.Kubectl(t.Context(), args...)
			if err != nil {
				t.Fatal(err)
			}
			if text == "" {
				t.Fatalf("%s has logged nothing: no way to tell", pod.Name)
			}
			out += text
		}
	}
	if len(pods.Items) == 0 {
		t.Fatal("no daemon runs: no way to tell")
	}
	for line := range strings.Lines(out) {
		if strings.Contains(strings.ToLower(line), "forbidden") {
			t.Error(strings.TrimSpace(line))
		}
	}
}
