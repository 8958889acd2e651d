package chapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const requests = 60

func names(ctx context.Context, w *walk) (string, error) {
	for _, args := range [][]string{
		{"getent", "ahostsv4", name},
		{"dig", "+short", name + "." + namespace + ".svc.cluster.local"},
		{"dig", "+short", "+search", name},
	} {
		out, err := w.Pod(ctx, args...)
		if err != nil {
			return "", err
		}
		if first, _, _ := strings.Cut(strings.TrimSpace(out), " "); firstLine(first) != w.ip {
			return "", fmt.Errorf("%s: %q, want %s", strings.Join(args, " "), first, w.ip)
		}
	}
	return "the short name and the full name are " + w.ip, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// loop makes n requests and counts the answers by pod. It ends with the first
// that fails, and says so: the count will not be n.
func loop(n int, url string) []string {
	return []string{"sh", "-c", fmt.Sprintf("for i in $(seq %d); do curl -sS --max-time 5 %s || exit; done | grep ^pod | sort | uniq -c", n, url)}
}

func traffic(ctx context.Context, w *walk) (string, error) {
	out, err := w.Pod(ctx, loop(requests, "http://"+name+":8080/")...)
	if err != nil {
		return "", err
	}
	return w.spread(ctx, out, requests)
}

// spread checks that the answers counted in out are n, and that each pod that
// is ready gave some of them.
func (w *walk) spread(ctx context.Context, out string, n int) (string, error) {
	pods, err := w.pods(ctx)
	if err != nil {
		return "", err
	}
	var counts []string
	total := 0
	for _, p := range pods {
		i := slices.IndexFunc(strings.Split(out, "\n"), func(l string) bool { return strings.Contains(l, p.Name) })
		if i < 0 {
			if lab.PodReady(&p) {
				return "", fmt.Errorf("%s is ready but answered none of %d requests", p.Name, n)
			}
			continue
		}
		if !lab.PodReady(&p) {
			return "", fmt.Errorf("%s is not ready but answered", p.Name)
		}
		count, err := strconv.Atoi(strings.Fields(strings.Split(out, "\n")[i])[0])
		if err != nil {
			return "", fmt.Errorf("count of %s: %w", p.Name, err)
		}
		total += count
		counts = append(counts, strconv.Itoa(count))
	}
	if total != n {
		return "", fmt.Errorf("%d of %d requests were answered by the pods", total, n)
	}
	return fmt.Sprintf("%d pods answered: %s", len(counts), strings.Join(counts, " + ")), nil
}

func nodePort(ctx context.Context, w *walk) (string, error) {
	if _, err := w.Kubectl(ctx, "patch", "service", name, "-p", `{"spec":{"type":"NodePort"}}`); err != nil {
		return "", err
	}
	if _, err := w.Kubectl(ctx, "get", "service", name); err != nil {
		return "", err
	}
	service, err := w.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	port := service.Spec.Ports[0].NodePort
	nodes, err := w.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var findings []string
	for _, n := range nodes.Items {
		url := fmt.Sprintf("http://%s:%d/", n.Status.Addresses[0].Address, port)
		out, err := w.Outside(ctx, loop(requests/2, url)...)
		if err != nil {
			return "", err
		}
		finding, err := w.spread(ctx, out, requests/2)
		if err != nil {
			return "", fmt.Errorf("over %s: %w", n.Name, err)
		}
		findings = append(findings, n.Name+": "+finding)
	}
	return strings.Join(findings, "; "), nil
}

func kubernetesService(ctx context.Context, w *walk) (string, error) {
	out, err := w.Pod(ctx, "curl", "-sSk", "--max-time", "5", "https://kubernetes/version")
	if err != nil {
		return "", err
	}
	version, err := w.Client.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, version.GitVersion) {
		return "", fmt.Errorf("the answer does not name version %s", version.GitVersion)
	}
	return "https://kubernetes is the API server, " + version.GitVersion, nil
}

func chosenIP(ctx context.Context, w *walk) (string, error) {
	const chosen, other = "10.96.77.77", "10.96.77.78"
	if _, err := w.Kubectl(ctx, "expose", "deployment", name, "--name="+fixedName, "--cluster-ip="+chosen); err != nil {
		return "", err
	}
	out, err := w.Pod(ctx, loop(requests/2, "http://"+chosen+":8080/")...)
	if err != nil {
		return "", err
	}
	if _, err := w.spread(ctx, out, requests/2); err != nil {
		return "", err
	}
	if out, err = w.Pod(ctx, "dig", "+short", fixedName+"."+namespace+".svc.cluster.local"); err != nil {
		return "", err
	}
	if firstLine(out) != chosen {
		return "", fmt.Errorf("%s resolves to %q, want %s", fixedName, out, chosen)
	}
	out, err = w.Kubectl(ctx, "patch", "service", fixedName, "-p", `{"spec":{"clusterIP":"`+other+`"}}`)
	if err == nil {
		return "", errors.New("the API accepted another cluster IP")
	}
	if !strings.Contains(out, "may not change once set") {
		return "", fmt.Errorf("the API refused, but not because the address is immutable: %w", err)
	}
	_, err = w.Kubectl(ctx, "delete", "service", fixedName)
	return chosen + " works; the API refuses to change it", err
}

func deleteService(ctx context.Context, w *walk) (string, error) {
	if _, err := w.Kubectl(ctx, "delete", "service", name); err != nil {
		return "", err
	}
	out, err := w.Pod(ctx, "dig", "+noall", "+comments", name+"."+namespace+".svc.cluster.local")
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "status: NXDOMAIN") {
		return "", errors.New("the name is still known")
	}
	// curl does not say whether it was refused or found no way.
	out, err = w.Pod(ctx, "nc", "-zv", "-w", "5", w.ip, "8080")
	if err == nil {
		return "", errors.New("the address still answers")
	}
	if !strings.Contains(out, "refused") {
		return "", fmt.Errorf("the address does not refuse: %w", err)
	}
	if _, err := w.Kubectl(ctx, "delete", "deployment", name, "--wait=false"); err != nil {
		return "", err
	}
	if err := w.noPools(ctx); err != nil {
		return "", err
	}
	return "NXDOMAIN, and connection refused", nil
}
