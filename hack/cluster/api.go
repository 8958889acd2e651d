package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// httpClient is for what needs no certificate.
var httpClient = &http.Client{Timeout: 5 * time.Second}

// admin returns a client of the API server that may do all.
func (c *cluster) admin() (*http.Client, error) {
	cert, err := tls.LoadX509KeyPair(c.paths.cert("admin"), c.paths.key("admin"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.paths.cert(caCert))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool}},
	}, nil
}

// get reads an URL, and decodes what it says into value unless that is nil.
func get(ctx context.Context, client *http.Client, url string, value any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, res.Status, bytes.TrimSpace(text))
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(text, value)
}

// nodeList is what this program reads of the API's list of nodes.
type nodeList struct {
	Items []struct {
		Metadata struct{ Name string }
		Status   struct {
			Conditions []struct{ Type, Status, Message string }
			NodeInfo   struct{ KubeletVersion string }
		}
	}
}

// unready returns, by node, why it is not ready.
func (l nodeList) unready() map[string]string {
	out := map[string]string{}
	for _, n := range nodes() {
		out[n.String()] = "is not registered"
	}
	for _, item := range l.Items {
		out[item.Metadata.Name] = "has not reported"
		for _, condition := range item.Status.Conditions {
			switch {
			case condition.Type == "Ready" && condition.Status == "True":
				delete(out, item.Metadata.Name)
			case condition.Type == "Ready":
				out[item.Metadata.Name] = condition.Message
			}
		}
	}
	return out
}

// apply applies a manifest.
func (c *cluster) apply(ctx context.Context, manifest []byte) error {
	_, err := c.runKubectl(ctx, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// runKubectl runs kubectl and returns what it printed.
func (c *cluster) runKubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	program, err := c.kubectlProgram()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.paths.kubeconfig())
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}
