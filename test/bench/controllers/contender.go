package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// contender is a program that publishes endpoints.
type contender struct {
	name  string
	start func(*apiserver.Server) (*apiserver.Program, error)
}

// stock are the controllers that are compared with.
func stock() []string { return []string{"endpoints-controller", "endpointslice-controller"} }

// contenders returns those whose name has only in it, after building Signpost.
func contenders(ctx context.Context, dir, only string) ([]contender, error) {
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	config := filepath.Join(dir, "config.yaml")
	// What is not a controller is off; all else is the default.
	text := `apiVersion: config.signpost.dev/v1alpha1
kind: SignpostConfiguration
nodeName: node-0
proxy: {enabled: false}
dns: {enabled: false}
health: {bindAddress: 127.0.0.1:0}
metrics: {bindAddress: ""}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	all := []contender{
		{"Signpost", func(s *apiserver.Server) (*apiserver.Program, error) { return s.Run(binary, "run", "--config="+config) }},
		{"stock, its defaults", func(s *apiserver.Server) (*apiserver.Program, error) { return s.StartStockWith(nil, stock()...) }},
		{"stock, generous", func(s *apiserver.Server) (*apiserver.Program, error) { return s.StartStock(stock()...) }},
	}
	var out []contender
	for _, c := range all {
		if strings.Contains(c.name, only) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-only: no contender has %q in its name", only)
	}
	return out, nil
}
