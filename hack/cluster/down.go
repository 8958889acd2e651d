package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// down is the command of that name. Each of its steps finds what it removes by
// itself, so that it works after any other command has been cut off, this
// one included.
func down(ctx context.Context, c *cluster, args []string) error {
	flags := flag.NewFlagSet("down", flag.ContinueOnError)
	force := flags.Bool("force", false, "also remove the cluster of another checkout, or one whose record is unreadable")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError(err.Error())
	}
	if err := noArguments(flags.Args()); err != nil {
		return err
	}
	return c.exclusively(func() error {
		r, err := c.toRemove(*force)
		if err != nil || r == nil {
			return err
		}
		return c.out.Do("cluster removed", func() error { return c.remove(ctx, r) })
	})
}

// toRemove returns the record of the cluster to remove, nil if there is none, or
// an error that says why not to.
func (c *cluster) toRemove(force bool) (*record, error) {
	owner, err := bridgeOwner()
	if err != nil {
		return nil, err
	}
	if owner != "" && owner != c.paths.dir && !force {
		return nil, fmt.Errorf("the cluster on this machine is not that of %s: the link %s belongs to %s; to remove it: SIGNPOST_CLUSTER_DIR=%[3]s go run ./hack/cluster down", c.paths.dir, bridgeName, owner)
	}
	r, err := readRecord(c.paths.record())
	if errors.Is(err, fs.ErrNotExist) {
		left, err := c.leftovers(owner)
		if err != nil || left {
			return &record{}, err
		}
		c.out.Say("There is no cluster: nothing to do.")
		return nil, nil
	}
	if err != nil {
		if force {
			return &record{}, nil
		}
		return nil, fmt.Errorf("%w; to remove the cluster all the same: go run ./hack/cluster down --force", err)
	}
	if _, err := os.Stat(r.Checkout); force || errors.Is(err, fs.ErrNotExist) {
		return r, nil // its owner has gone, or so the user wants it
	}
	return r, r.ownedBy(c.checkout, c.paths.dir)
}

// leftovers says whether something is there although there is no record: a `down`
// was cut off.
func (c *cluster) leftovers(bridgeOwner string) (bool, error) {
	dirs, err := groups(cgroupRoot, everyGroup)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(c.paths.dir)
	return bridgeOwner != "" || len(dirs) > 0 || err == nil, nil
}

// remove removes all. The record goes last but for the folder itself.
func (c *cluster) remove(ctx context.Context, r *record) error {
	for name, p := range r.Processes {
		// They are in the group, unless somebody moved them.
		if p.alive() {
			if err := unix.Kill(p.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %s: %w", name, err)
			}
		}
	}
	if err := killMembers(ctx, everyGroup); err != nil {
		return err
	}
	if err := removeLinks(); err != nil {
		return err
	}
	if err := removeGroups(ctx); err != nil {
		return err
	}
	if err := removeMade(r.MadeFolders); err != nil {
		return err
	}
	if err := unmountBelow(c.paths.dir); err != nil {
		return err
	}
	return removeFolder(c.paths)
}

// removeMade removes the folders that were made as mount points, the deepest
// first. One that has got something in it stays.
func removeMade(folders []string) error {
	for _, folder := range slices.Backward(folders) {
		err := os.Remove(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// unmountBelow unmounts what somebody has mounted below the folder, which is
// going to be removed with all that is in it. The nodes' own mounts are
// not of this namespace.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(mountsBelow(string(text), dir)) {
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// mountsBelow reads the fifth field of the lines of mountinfo.
func mountsBelow(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point+"/", dir+"/") {
			out = append(out, point)
		}
	}
	return out
}

// removeFolder removes the cluster's folder, with the record last, so that a
// removal that is cut off can be gone on with.
func removeFolder(p paths) error {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(p.dir, e.Name())
		if file == p.record() {
			continue
		}
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	return os.RemoveAll(p.dir)
}
