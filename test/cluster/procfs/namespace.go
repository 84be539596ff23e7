package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace identifies a network namespace.
type Namespace struct {
	Dev, Inode uint64
}

// HoldNamespaces identifies the namespaces that are mounted in dir under names with a prefix. Until release they stay, without a name perhaps: the
// kernel gives the number of one that is gone to the next that is made, whoever makes it.
func HoldNamespaces(dir, prefix string) (list []Namespace, release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			_ = f.Close()
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, release, fmt.Errorf("listing namespaces: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, release, fmt.Errorf("identifying namespace %s: %w", e.Name(), err)
		}
		held = append(held, f)
		n, err := namespace(f.Name())
		if err != nil {
			return nil, release, fmt.Errorf("identifying namespace %s: %w", e.Name(), err)
		}
		list = append(list, n)
	}
	return list, release, nil
}

func namespace(path string) (Namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Namespace{}, err
	}
	return Namespace{Dev: st.Dev, Inode: st.Ino}, nil
}

// InNamespaces lists the processes that are in one of the namespaces, as "number command". The calling process is left out.
func InNamespaces(list []Namespace) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		n, err := namespace(filepath.Join("/proc", e.Name(), "ns", "net"))
		if err != nil || !slices.Contains(list, n) {
			continue // ended meanwhile, or elsewhere
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")))
	}
	return found, nil
}
