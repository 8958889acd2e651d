// Package usage reads what a process uses of the machine, from /proc.
package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used.
type Usage struct {
	// CPU is processor time, with that of child programs that have ended.
	CPU time.Duration
	// Resident and Peak are memory, in bytes.
	Resident, Peak int64
}

// clockTick is the unit of times in /proc, which is 100 a second on all that Go
// runs on.
const clockTick = 10 * time.Millisecond

// Since sets u to what the process has used since before: its memory is that of now.
func (u *Usage) Since(before Usage, pid int) error {
	now, err := Of(pid)
	if err != nil {
		return err
	}
	*u = now
	u.CPU -= before.CPU
	return nil
}

// Of returns what the process has used so far.
func Of(pid int) (Usage, error) {
	var u Usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("the process has ended: %w", err)
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	for _, f := range fields[11:15] { // utime, stime, cutime and cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		u.CPU += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("the process has ended: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &u.Resident, "VmHWM:": &u.Peak} {
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

// Children reports whether the process has child programs that run, whose processor time is
// not known yet.
func Children(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && len(text) > 0 {
			return true
		}
	}
	return false
}

// Memory is like "120 (131)": MiB now, and at most.
func (u Usage) Memory() string { return fmt.Sprintf("%d (%d)", u.Resident>>20, u.Peak>>20) }
