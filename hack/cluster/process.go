package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// process identifies a process for good: the number alone may be another's by
// the time it is used.
type process struct {
	PID int
	// Start is when it was started, in clock ticks since the machine was.
	Start uint64
}

// alive is false if the process has ended, also if nobody has reaped it yet.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	state, start, err := parseStat(string(text))
	return err == nil && start == p.Start && state != "Z" && state != "X"
}

// parseStat reads the third and the 22nd field of /proc/PID/stat. The second is
// the program's name, which may have blanks and parentheses in it.
func parseStat(text string) (state string, start uint64, err error) {
	end := strings.LastIndex(text, ")")
	fields := strings.Fields(text[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", 0, fmt.Errorf("not the stat of a process: %q", text)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0], start, err
}

// identify returns the process that has this number now.
func identify(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	_, start, err := parseStat(string(text))
	return process{PID: pid, Start: start}, err
}

// stop ends the process: with SIGTERM and, after some grace, with SIGKILL.
func (p process) stop(ctx context.Context, grace time.Duration) error {
	for _, s := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 10 * time.Second}} {
		if !p.alive() {
			return nil
		}
		if err := syscall.Kill(p.PID, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		err := step.Await(ctx, s.limit, func(context.Context) error {
			if p.alive() {
				return fmt.Errorf("process %d is still there", p.PID)
			}
			return nil
		})
		if err == nil || ctx.Err() != nil || s.signal == syscall.SIGKILL {
			return err
		}
	}
	return nil
}

// ensure starts a program that stays, unless it runs: in the cluster's control
// group and a session of its own, so that Ctrl-C does not reach it, with its output
// in the log. It is recorded under its name.
func (c *cluster) ensure(r *record, name string, args ...string) error {
	if r.process(name).alive() {
		return nil
	}
	log, err := c.openLog(name)
	if err != nil {
		return err
	}
	defer log.Close()
	// The shell moves itself before it becomes the program: nothing that this
	// one starts can be outside of the group.
	cmd := exec.Command("sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, processFile(name)}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.paths.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return c.recordProcess(r, name, cmd)
}

// recordProcess notes a process that was started, and reaps it if it ends
// before this program does.
func (c *cluster) recordProcess(r *record, name string, cmd *exec.Cmd) error {
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	go cmd.Wait() //nolint:errcheck // whoever waits for the process to get ready sees that it ended
	return r.change(func() { r.Processes[name] = p })
}

func (c *cluster) openLog(name string) (*os.File, error) {
	file := c.paths.log(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// ready starts a program as ensure does and waits until check is content.
func (c *cluster) ready(ctx context.Context, r *record, name string, limit time.Duration, check func(context.Context) error, args ...string) error {
	if err := c.ensure(r, name, args...); err != nil {
		return err
	}
	err := step.Await(ctx, limit, func(ctx context.Context) error {
		if !r.process(name).alive() {
			return fmt.Errorf("it ended: %w", step.ErrHopeless)
		}
		return check(ctx)
	})
	if err != nil {
		return &step.Failure{
			What: name + " did not become ready", Err: err, Log: c.paths.log(name),
			Hint: "When the cause is gone, run the same command again, or clean up with: go run ./hack/cluster down",
		}
	}
	return nil
}
