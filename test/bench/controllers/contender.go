package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// usage is what a process has used.
type usage struct {
	cpu time.Duration
	// resident and peak are memory, in bytes.
	resident, peak int64
}

// clockTick is the unit of times in /proc, which is 100 a second on all that Go
// runs on.
const clockTick = 10 * time.Millisecond

// since sets u to what the process has used since before: its memory is that of now.
func (u *usage) since(before usage, pid int) error {
	now, err := usageOf(pid)
	if err != nil {
		return err
	}
	*u = now
	u.cpu -= before.cpu
	return nil
}

func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("the contender has ended: %w", err)
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		u.cpu += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("the contender has ended: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &u.resident, "VmHWM:": &u.peak} {
			if text, ok := strings.CutPrefix(line, name); ok {
				if _, err := fmt.Sscan(text, to); err != nil {
					return u, fmt.Errorf("/proc/%d/status: %w", pid, err)
				}
				*to *= 1024
			}
		}
	}
	return u, nil
}
