package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"text/template"
)

// The configuration of all that runs: files/ has it in the form in which one
// would write it by hand.
//
//go:embed files
var files embed.FS

// render fills in one of the files.
func render(name string, values any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(files, "files/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// renderTo writes what render returns into a file.
func renderTo(file, name string, values any) error {
	text, err := render(name, values)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func kubeletValues(p paths, n node) any {
	return map[string]string{
		"Socket": containerdSocket, "ResolvConf": p.resolvConf(n), "DNS": dnsService, "Domain": domain,
		"CA": p.cert(caCert), "Cert": p.cert(n.String()), "Key": p.key(n.String()), "CgroupRoot": podGroup(n),
	}
}

func containerdValues() any {
	return map[string]string{"Pause": pauseImage, "CNIBin": cniBin}
}

func cniValues(n node) any { return map[string]string{"PodCIDR": n.podCIDR()} }

func kubeProxyValues(p paths, n node) any {
	return map[string]string{"Kubeconfig": p.config("kube-proxy"), "Node": n.String(), "ClusterCIDR": podCIDR}
}

// nodeView is a node as files/cluster.yaml sees it.
type nodeView struct{ node }

// Zone is the node's zone.
func (v nodeView) Zone() string { return v.zone() }

// PodCIDR is the range of the node's pods.
func (v nodeView) PodCIDR() string { return v.podCIDR() }

func clusterValues() any {
	var views []nodeView
	for _, n := range nodes() {
		views = append(views, nodeView{n})
	}
	return map[string]any{"Nodes": views, "Server": apiServerURL}
}

func coreDNSValues() (any, error) {
	host, port, err := net.SplitHostPort(apiServerURL[len("https://"):])
	if err != nil {
		return nil, err
	}
	return map[string]string{"Domain": domain, "Image": coreDNSImage, "DNS": dnsService, "APIHost": host, "APIPort": port}, nil
}

// writeKubeconfig writes the kubeconfig of a component, whose name is that of its
// certificate, with all in it that it needs.
func (c *cluster) writeKubeconfig(component string) error {
	values := map[string]string{"Server": apiServerURL, "Name": component}
	for key, file := range map[string]string{
		"CA": c.paths.cert(caCert), "Cert": c.paths.cert(component), "Key": c.paths.key(component),
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", component, err)
		}
		values[key] = base64.StdEncoding.EncodeToString(text)
	}
	return renderTo(c.paths.config(component), "kubeconfig", values)
}
