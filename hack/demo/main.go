package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/test/chapter"
	"github.com/signpost-dev/signpost/test/chapter/lab"
)

func main() {
	down := flag.Bool("down", false, "remove the cluster in the end")
	setup := flag.Bool("setup", false, "stand the cluster up with Signpost in it, and show nothing")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := demo{out: os.Stdout, begin: time.Now()}
	err := d.run(ctx, *setup)
	if *down {
		err = errors.Join(err, d.command(context.WithoutCancel(ctx), "go", "run", "./hack/cluster", "down"))
	}
	d.summary(*down)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	out   io.Writer
	begin time.Time
	lines []line
}

// line is one of the summary.
type line struct {
	title, finding string
	took           time.Duration
	failed         bool
}

// run does all; the error says that it could not go on, or that a step failed.
func (d *demo) run(ctx context.Context, setupOnly bool) error {
	for _, s := range []struct {
		title   string
		command []string
	}{
		{"Build the images", []string{"go", "run", "./hack/image"}},
		{"Stand the cluster up", []string{"go", "run", "./hack/cluster", "up"}},
		{"Load the images", []string{"go", "run", "./hack/cluster", "load"}},
	} {
		d.heading(s.title)
		begin := time.Now()
		err := d.command(ctx, s.command[0], s.command[1:]...)
		d.report(s.title, "", time.Since(begin), err)
		if err != nil {
			return err
		}
	}
	c, err := lab.Open(ctx, d.out)
	if err != nil {
		return err
	}
	defer c.Close()
	const title = "Deploy Signpost"
	d.heading(title)
	begin := time.Now()
	err = deploy(ctx, c)
	d.report(title, "ready on every node", time.Since(begin), err)
	if err != nil || setupOnly {
		return err
	}
	var failed []error
	chapter.Walk(ctx, c, d.out,
		func(s chapter.Step) { d.heading(s.Title) },
		func(r chapter.Result) {
			d.report(r.Step.Title, r.Finding, r.Took, r.Err)
			if r.Err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", r.Step.Title, r.Err))
			}
		})
	return errors.Join(failed...)
}

// deploy does what an operator does, and waits until it has had its effect.
func deploy(ctx context.Context, c *lab.Cluster) error {
	for _, args := range [][]string{
		{"apply", "-k", "config/default"},
		{"rollout", "status", "-n", "kube-system", "daemonset/signpost", "--timeout=120s"},
		{"get", "pods", "-n", "kube-system", "-o", "wide"},
	} {
		if _, err := c.Kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// command runs a command whose output is shown as it comes: these take long.
func (d *demo) command(ctx context.Context, name string, args ...string) error {
	fmt.Fprint(d.out, "$ ", name)
	for _, a := range args {
		fmt.Fprint(d.out, " ", a)
	}
	fmt.Fprintln(d.out)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = d.out, d.out
	// Interrupted, it may want to tidy up.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %v: %w", name, args, err)
	}
	return nil
}
