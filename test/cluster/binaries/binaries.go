// Package binaries builds the programs of the local cluster from the Go module proxy into a cache.
package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Versions of what is built, as go.mod of the build modules pins them; images carry them in their tags.
const (
	KubernetesVersion = "v1.37.2"
	CoreDNSVersion    = "v1.14.7"
)

// Program is a program that Ensure builds.
type Program string

// The programs.
const (
	APIServer         Program = "kube-apiserver"
	ControllerManager Program = "kube-controller-manager"
	Scheduler         Program = "kube-scheduler"
	Kubelet           Program = "kubelet"
	KubeProxy         Program = "kube-proxy"
	Kubectl           Program = "kubectl"
	Etcd              Program = "etcd"
	Agnhost           Program = "agnhost"
	CoreDNS           Program = "coredns"
	Pause             Program = "pause"
)

// target is one program and how it is built.
type target struct {
	program Program
	module  string // folder of the build module, below test/cluster/build
	pkg     string
	static  bool // runs inside an image, where no C library is
}

func targets() []target {
	const k = "k8s.io/kubernetes/"
	return []target{
		{APIServer, "kubernetes", k + "cmd/kube-apiserver", false},
		{ControllerManager, "kubernetes", k + "cmd/kube-controller-manager", false},
		{Scheduler, "kubernetes", k + "cmd/kube-scheduler", false},
		{Kubelet, "kubernetes", k + "cmd/kubelet", false},
		{KubeProxy, "kubernetes", k + "cmd/kube-proxy", false},
		{Kubectl, "kubernetes", k + "cmd/kubectl", false},
		{Etcd, "kubernetes", "go.etcd.io/etcd/server/v3", true},
		{Agnhost, "kubernetes", k + "test/images/agnhost", true},
		{CoreDNS, "coredns", ".", true},
		{Pause, "pause", ".", true},
	}
}

// Set says where the built programs are.
type Set struct {
	dirs map[string]string
}

// Path returns the file of a program.
func (s Set) Path(p Program) string {
	for _, t := range targets() {
		if t.program == p {
			return filepath.Join(s.dirs[t.module], string(p))
		}
	}
	return ""
}

// Key changes when any of the programs does. (Writing to a hash never fails.)
func (s Set) Key() string {
	h := sha256.New()
	for _, t := range targets() {
		_, _ = fmt.Fprintln(h, s.dirs[t.module])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Ensure builds what is missing below cache and returns where everything is. Of two that run at once, one waits for the
// other and then finds the work done. Each step is told to say.
func Ensure(ctx context.Context, cache string, say func(format string, args ...any)) (Set, error) {
	set := Set{dirs: map[string]string{}}
	source, err := sourceDir()
	if err != nil {
		return set, err
	}
	bin := filepath.Join(cache, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return set, fmt.Errorf("making the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(bin, ".lock"), say)
	if err != nil {
		return set, err
	}
	defer unlock()
	for _, t := range targets() {
		if set.dirs[t.module] != "" {
			continue
		}
		key, err := moduleKey(filepath.Join(source, t.module))
		if err != nil {
			return set, err
		}
		set.dirs[t.module] = filepath.Join(bin, t.module+"-"+key)
	}
	for _, t := range targets() {
		out := set.Path(t.program)
		if _, err := os.Stat(out); err == nil {
			continue
		}
		say("building %s", t.program)
		if err := build(ctx, t, filepath.Join(source, t.module), out); err != nil {
			return set, err
		}
	}
	for _, t := range targets() {
		if err := link(set.Path(t.program), filepath.Join(bin, string(t.program))); err != nil {
			return set, err
		}
	}
	return set, prune(bin, set)
}

// keep is how many builds of a module stay in the cache: this one, and one that a cluster may run from.
const keep = 2

// prune removes old builds, each of which is most of a gigabyte. Programs that run go on running.
func prune(bin string, set Set) error {
	for module, current := range set.dirs {
		dirs, err := filepath.Glob(filepath.Join(bin, module+"-*"))
		if err != nil {
			return fmt.Errorf("removing old builds: %w", err)
		}
		used := map[string]time.Time{}
		for _, d := range dirs {
			info, err := os.Stat(d)
			if err != nil {
				return fmt.Errorf("removing old builds: %w", err)
			}
			used[d] = info.ModTime()
		}
		used[current] = time.Now()
		slices.SortFunc(dirs, func(a, b string) int { return used[b].Compare(used[a]) })
		for _, d := range dirs[min(keep, len(dirs)):] {
			if err := os.RemoveAll(d); err != nil {
				return fmt.Errorf("removing old builds: %w", err)
			}
		}
	}
	return nil
}

// link makes bin/<program> mean the newest build, for scripts and tests that start a program themselves.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	if err := os.Symlink(target, part); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	return nil
}

// build makes out by way of a temporary file, so that an interrupted build leaves nothing that looks finished.
func build(ctx context.Context, t target, dir, out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("building %s: %w", t.program, err)
	}
	part := out + ".part"
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", linkFlags(), "-o", part, t.pkg)
	cmd.Dir = dir
	cmd.Env = os.Environ()
	if t.static {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", t.program, err, tail(string(output), 30))
	}
	if err := os.Rename(part, out); err != nil {
		return fmt.Errorf("building %s: %w", t.program, err)
	}
	return nil
}

// linkFlags strip the programs (a third of their size) and tell Kubernetes which version it is: releases get this from their
// build scripts, and without it nodes report v0.0.0. Link flags leave the build cache valid.
func linkFlags() string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const pkg = "k8s.io/component-base/version."
	return fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s -X %sgitTreeState=clean",
		pkg, KubernetesVersion, pkg, major, pkg, minor, pkg)
}

// moduleKey is a hash of all that decides what a build module builds.
func moduleKey(dir string) (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, runtime.Version(), runtime.GOARCH, linkFlags(), targets())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("reading the build module: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", fmt.Errorf("reading the build module: %w", err)
		}
		_, _ = fmt.Fprintln(h, e.Name())
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("reading the build module: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
