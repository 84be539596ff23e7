package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/cluster/procfs"
)

// makeCgroups makes the cgroup of a host in every hierarchy of the machine. Only containers are put there.
func makeCgroups(cgroup string) error {
	mounts, err := procfs.CgroupMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		dir := m
		for part := range strings.SplitSeq(strings.Trim(cgroup, "/"), "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("making cgroup %s: %w", dir, err)
			}
			if err := inheritCgroup(parent, dir); err != nil {
				return fmt.Errorf("making cgroup %s: %w", dir, err)
			}
			if parent == m {
				if err := weigh(dir); err != nil {
					return fmt.Errorf("making cgroup %s: %w", dir, err)
				}
			}
		}
	}
	return nil
}

// weigh has containers get processors as they do on a node: there all pods together weigh twice as much and more than all of the node's own
// programs (kubelet, runtime). Here these stay where they were started, where each weighs as much as a cgroup by default.
func weigh(dir string) error {
	for file, weight := range map[string]string{"cpu.shares": "20480", "cpu.weight": "2000"} { // version 1, version 2: 20 programs
		switch err := os.WriteFile(filepath.Join(dir, file), []byte(weight), 0o644); {
		case err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission):
		default:
			return err
		}
	}
	return nil
}

// inheritCgroup makes a new cgroup usable: in version 1 a cpuset starts without processors, and in version 2 a cgroup has the
// controllers that its parent hands down.
func inheritCgroup(parent, dir string) error {
	if controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers")); err == nil {
		for c := range strings.FieldsSeq(string(controllers)) {
			// What cannot be handed down (a real-time process in the way of "cpu") is done without.
			_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+c), 0o644)
		}
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cgroupsOf lists the cgroups below a path, in every hierarchy, the deepest first.
func cgroupsOf(cgroup string) ([]string, error) {
	mounts, err := procfs.CgroupMounts()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, m := range mounts {
		err := filepath.WalkDir(filepath.Join(m, cgroup), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing cgroups: %w", err)
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// removeCgroups removes a cluster's cgroups. A process that just ended keeps its cgroup busy for a moment.
func removeCgroups(ctx context.Context, cgroup string) error {
	return poll(ctx, "cgroups to be empty", func() error {
		dirs, err := cgroupsOf(cgroup)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("removing cgroup %s: %w", d, err)
			}
			// The parent of all clusters goes with the last of them, and is busy as long as there is another.
			_ = unix.Rmdir(filepath.Dir(d))
		}
		return nil
	})
}
