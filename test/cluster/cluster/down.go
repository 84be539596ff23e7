package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/test/cluster/binaries"
	"github.com/manul-net/manul/test/cluster/procfs"
)

// removeWait is the longest that a cluster takes to go.
const removeWait = time.Minute

// leftoverWait is how long a command on a host may take to end after its host.
const leftoverWait = 5 * time.Second

// Down removes a cluster: processes, namespaces, mounts, cgroups and files but the logs. It checks that nothing is left and
// says what is. A cluster that does not exist is no error. Only Name, Cache and Say of the options are used.
func Down(ctx context.Context, o Options) error {
	o, err := o.WithDefaults()
	if err != nil {
		return err
	}
	p := newPaths(o)
	if err := os.MkdirAll(filepath.Dir(p.lock()), 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	unlock, err := binaries.Lock(ctx, p.lock(), func() { o.Say("waiting for another run on cluster %s", o.Name) })
	if err != nil {
		return err
	}
	defer unlock()
	namespaces, release, err := procfs.HoldNamespaces(namespaceDir, p.namespace(""))
	defer release()
	if err != nil {
		return err
	}
	if err := remove(ctx, p); err != nil {
		return err
	}
	// A command that was running on a host needs a moment to end.
	ctx, cancel := context.WithTimeout(ctx, leftoverWait)
	defer cancel()
	err = poll(ctx, "the last of it to go", func() error { return leftovers(p, namespaces) })
	if err != nil {
		return fmt.Errorf("removing cluster %s: %w", o.Name, err)
	}
	return nil
}

// Names lists the clusters of a cache, those included that a run which was cut off left half made.
func Names(o Options) ([]string, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(o.Cache, "clusters"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(o.Cache, "clusters", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("listing clusters: %w", err)
		}
		// A cluster that is down leaves its logs and nothing else.
		if slices.ContainsFunc(files, func(f os.DirEntry) bool { return f.Name() != "logs" }) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// remove removes all of a cluster but its logs, from whatever state it is in. The order matters: the processes hold the
// namespaces, mounts and cgroups.
func remove(ctx context.Context, p paths) error {
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	dirs, err := os.ReadDir(filepath.Join(p.dir, "hosts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing cluster %s: %w", p.name, err)
	}
	for _, d := range dirs {
		if err := endHost(ctx, p, d.Name()); err != nil {
			return err
		}
	}
	if err := removeCgroups(ctx, filepath.Dir(p.cgroup("x"))); err != nil {
		return err
	}
	names, err := namespacesOf(p)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := deleteNamespace(n); err != nil {
			return err
		}
	}
	// Whatever is mounted there belongs to someone else: removing files through it would be wrong.
	if mounts, err := mountsBelow(p.dir); err != nil || len(mounts) > 0 {
		return errors.Join(err, fmt.Errorf("removing cluster %s: still mounted: %s", p.name, strings.Join(mounts, ", ")))
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing cluster %s: %w", p.name, err)
	}
	for _, e := range entries {
		if path := filepath.Join(p.dir, e.Name()); path != p.logs() {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("removing cluster %s: %w", p.name, err)
			}
		}
	}
	return nil
}

func mountsBelow(dir string) ([]string, error) {
	mounts, err := procfs.Mounts()
	if err != nil {
		return nil, err
	}
	var below []string
	for _, m := range mounts {
		if m.Point == dir || strings.HasPrefix(m.Point, dir+"/") {
			below = append(below, m.Point)
		}
	}
	return below, nil
}

// leftovers returns an error that says what is left of a cluster that was removed. Namespaces are those that it had.
func leftovers(p paths, namespaces []procfs.Namespace) error {
	var left []string
	names, err := namespacesOf(p)
	if err != nil {
		return err
	}
	for _, n := range names {
		left = append(left, "namespace "+n)
	}
	cgroups, err := cgroupsOf(filepath.Dir(p.cgroup("x")))
	if err != nil {
		return err
	}
	for _, c := range cgroups {
		left = append(left, "cgroup "+c)
	}
	mounts, err := mountsBelow(p.dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	processes, err := procfs.InNamespaces(namespaces)
	if err != nil {
		return err
	}
	for _, s := range processes {
		left = append(left, "process "+s)
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, "; "))
	}
	return nil
}
