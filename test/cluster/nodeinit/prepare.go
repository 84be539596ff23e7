package nodeinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/cluster/procfs"
)

// ReleaseFD is the descriptor that a new first process reads one byte from before it does anything. Who starts it writes
// the byte once the process is on record, and so no process exists that the clean-up does not know of.
const ReleaseFD = 3

// Prepare waits to be released, sets up the host's mount tree and replaces itself by `program args...`, which calls Run.
// The caller is already the first process of its own process, mount, UTS and network namespaces.
func Prepare(configPath, program string, args []string) error {
	release := os.NewFile(ReleaseFD, "release")
	if n, err := release.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("waiting to be released: %w", err)
	}
	if err := release.Close(); err != nil {
		return fmt.Errorf("waiting to be released: %w", err)
	}
	c, err := ReadConfig(configPath)
	if err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := mountTree(c); err != nil {
		return err
	}
	for path, value := range c.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s to %s: %w", path, value, err)
		}
	}
	for path, content := range c.Files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux"}
	if err := unix.Exec(program, append([]string{program}, args...), env); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	return nil
}

// mountTree gives the host a root of its own: the machine's root file system below, and a writable layer of the host on top,
// so that nothing written on the host (by a DaemonSet with hostPath volumes, say) reaches the machine.
func mountTree(c Config) error {
	root := filepath.Join(c.Dir, "root")
	steps := []struct {
		what string
		do   func() error
	}{
		{"leaving the machine's mount propagation", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mounting the root", func() error { return mountRoot(c, root) }},
		{"mounting /proc", func() error {
			return mountProc(c, filepath.Join(root, "proc"))
		}},
		{"mounting /sys", func() error { return mountSys(c, filepath.Join(root, "sys")) }},
		{"mounting /dev", func() error { return mountDev(filepath.Join(root, "dev")) }},
		{"mounting /run", func() error { return mountRun(filepath.Join(root, "run")) }},
		{"mounting private folders", func() error { return mountPrivate(c, root) }},
		{"mounting shared folders", func() error { return mountShared(c, root) }},
		{"changing the root", func() error { return changeRoot(root) }},
		// Within the host only, as on a real one: containers ask for mount propagation.
		{"sharing mounts within the host", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func mountRoot(c Config, root string) error {
	layer, work := filepath.Join(c.Dir, "layer"), filepath.Join(c.Dir, "work")
	for _, d := range []string{root, layer, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", layer, work))
}

func mountProc(c Config, proc string) error {
	if err := mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for path, value := range c.Tunables {
		target := filepath.Join(proc, "sys", path)
		if _, err := os.Stat(target); err != nil {
			continue // this kernel has no such setting
		}
		source := filepath.Join(c.Dir, "tunables", path)
		if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(source, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mountSys(c Config, sys string) error {
	// A new sysfs, not the machine's: /sys/class/net shows the network namespace of who mounts it.
	if err := mount("sysfs", sys, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mountCgroups(c.Cgroup, filepath.Join(sys, "fs", "cgroup")); err != nil {
		return err
	}
	bpf := filepath.Join(sys, "fs", "bpf")
	if _, err := os.Stat(bpf); err != nil {
		return nil //nolint:nilerr // A kernel without BPF has no such folder, and the host does without.
	}
	return mount("bpf", bpf, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
}

// mountCgroups shows the host's own cgroup of each hierarchy where the machine has the root of that hierarchy. Containers
// that the host starts are then below the host's cgroup, and clean-up finds them there.
func mountCgroups(cgroup, target string) error {
	mounts, err := procfs.CgroupMounts()
	if err != nil {
		return err
	}
	const top = "/sys/fs/cgroup"
	if !slices.Contains(mounts, top) { // each hierarchy is a folder of its own
		if err := mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
			return err
		}
		if err := copyLinks(top, target); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		rel, err := filepath.Rel(top, m)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		dir := filepath.Join(target, rel)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := mount(filepath.Join(m, cgroup), dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// copyLinks copies the symbolic links by which a hierarchy goes under several names (cpu -> cpu,cpuacct).
func copyLinks(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		link, err := os.Readlink(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.Symlink(link, filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// mountDev makes a /dev with what programs need and without the machine's disks: a privileged container gets every device of
// its host.
func mountDev(dev string) error {
	if err := mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for _, d := range []string{"pts", "shm", "mqueue", "net"} {
		if err := os.Mkdir(filepath.Join(dev, d), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "net/tun"} {
		source := filepath.Join("/dev", name)
		if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
			continue
		}
		target := filepath.Join(dev, name)
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			return err
		}
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC
	if err := mount("devpts", filepath.Join(dev, "pts"), "devpts", flags, "newinstance,ptmxmode=0666,mode=620,gid=5"); err != nil {
		return err
	}
	if err := mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", flags|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	// A kernel without POSIX message queues has no such file system.
	if err := mount("mqueue", filepath.Join(dev, "mqueue"), "mqueue", flags|unix.MS_NODEV, ""); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func mountRun(run string) error {
	if err := mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for _, d := range []string{"netns", "containerd", "manul", "lock"} {
		if err := os.Mkdir(filepath.Join(run, d), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func mountPrivate(c Config, root string) error {
	for _, p := range c.Private {
		source, target := filepath.Join(c.Dir, "fs", p), filepath.Join(root, p)
		for _, d := range []string{source, target} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mountShared(c Config, root string) error {
	for _, p := range c.Shared {
		target := filepath.Join(root, p)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := mount(p, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func changeRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// With the same folder for both, the old root is stacked on the new one, and no folder is needed to put it in.
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	return nil
}
