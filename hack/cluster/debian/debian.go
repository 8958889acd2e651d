// Package debian sees to it that the Debian packages are there that the tools
// under hack need: it installs them for root, and names them for others.
package debian

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Ensure installs those of the packages that are missing. Without the right to
// do that, or on another system, its error is a sentence that says what to do.
func Ensure(ctx context.Context, out io.Writer, packages ...string) error {
	missing, err := Missing(ctx, packages)
	if err != nil || len(missing) == 0 {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing Debian packages: %[1]s; as root, run: apt-get install -y %[1]s", strings.Join(missing, " "))
	}
	fmt.Fprintln(out, "    installing Debian packages:", strings.Join(missing, " "))
	if err := install(ctx, missing); err == nil {
		return nil
	}
	// The lists may be missing, as they are on a fresh machine, or old.
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return install(ctx, missing)
}

// Missing returns those of the packages that are not installed.
func Missing(ctx context.Context, packages []string) ([]string, error) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return nil, fmt.Errorf("this is no Debian or Ubuntu (%w): install what these packages have by hand: %s", err, strings.Join(packages, " "))
	}
	args := append([]string{"--show", "--showformat=${db:Status-Status} ${Package}\n"}, packages...)
	text, err := exec.CommandContext(ctx, "dpkg-query", args...).Output()
	// It exits with 1 if it knows nothing of one of them.
	if exit := (&exec.ExitError{}); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("dpkg-query: %w", err)
	}
	return missing(packages, string(text)), nil
}

// missing reads what dpkg-query says: a line "installed NAME" for each.
func missing(packages []string, status string) []string {
	installed := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(status))
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "installed "); ok {
			installed[name] = true
		}
	}
	wanted := map[string]bool{}
	for _, p := range packages {
		if !installed[p] {
			wanted[p] = true
		}
	}
	return slices.Sorted(maps.Keys(wanted))
}

func install(ctx context.Context, packages []string) error {
	return apt(ctx, append([]string{"install", "-y", "--no-install-recommends"}, packages...)...)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}
