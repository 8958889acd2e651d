package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Backend is one of the two sets of iptables programs, which keep their rules in
// different places of the kernel.
type Backend string

// The backends.
const (
	NFT    Backend = "nft"
	Legacy Backend = "legacy"
)

// programs are the names of the programs of a backend and family.
type programs struct{ rule, restore, save string }

// find looks for the programs under the names that say the backend, and then
// for the plain ones, if those are of this backend.
func find(ctx context.Context, b Backend, f ruleset.Family) (programs, error) {
	base := "iptables"
	if f == ruleset.IPv6 {
		base = "ip6tables"
	}
	named := programs{base + "-" + string(b), base + "-" + string(b) + "-restore", base + "-" + string(b) + "-save"}
	plain := programs{base, base + "-restore", base + "-save"}
	err := named.lookup()
	if err == nil {
		return named, nil
	}
	if plain.lookup() == nil && plain.backend(ctx) == b {
		return plain, nil
	}
	return programs{}, err
}

func (p programs) lookup() error {
	for _, name := range []string{p.rule, p.restore, p.save} {
		if _, err := exec.LookPath(name); err != nil {
			return &MissingProgramError{Program: name}
		}
	}
	return nil
}

// backend asks the program itself: "iptables v1.8.9 (nf_tables)".
func (p programs) backend(ctx context.Context) Backend {
	version, err := output(ctx, p.rule, "--version")
	if err == nil && strings.Contains(version, "nf_tables") {
		return NFT
	}
	return Legacy
}

// killDelay is how long a program may go on after it was told to end. One that
// is inside the kernel commits in that time.
const killDelay = 2 * time.Second

// run starts a program and waits for its end. It returns what the program wrote
// to stderr also when it succeeds.
func run(ctx context.Context, stdin io.Reader, stdout io.Writer, name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		err = &MissingProgramError{Program: name}
	}
	return stderr.String(), err
}

// output returns what a program prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout bytes.Buffer
	stderr, err := run(ctx, nil, &stdout, name, args...)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, firstLine(stderr))
	}
	return stdout.String(), nil
}
