package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/manul-net/manul/hack/ociimage/archive"
	"github.com/manul-net/manul/test/cluster/binaries"
)

// Images that every node has. No node can pull: there is no registry.
const (
	PauseImage   = "registry.k8s.io/pause:3.10.2"
	AgnhostImage = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
	CoreDNSImage = "registry.k8s.io/coredns/coredns:" + binaries.CoreDNSVersion
)

// makeImages writes the archives of those images into the cache, unless they are there, and returns their paths.
func makeImages(ctx context.Context, cache string, bin binaries.Set, say func(string, ...any)) ([]string, error) {
	dir := filepath.Join(cache, "images", bin.Key())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making images: %w", err)
	}
	unlock, err := binaries.Lock(ctx, filepath.Join(dir, ".lock"), func() { say("waiting for another build of images") })
	if err != nil {
		return nil, err
	}
	defer unlock()
	images := []struct {
		file, name string
		program    binaries.Program
		tools      bool
	}{
		{"pause.tar", PauseImage, binaries.Pause, false},
		{"agnhost.tar", AgnhostImage, binaries.Agnhost, true},
		{"coredns.tar", CoreDNSImage, binaries.CoreDNS, false},
	}
	var files []string
	for _, i := range images {
		out := filepath.Join(dir, i.file)
		files = append(files, out)
		if _, err := os.Stat(out); err == nil {
			continue
		}
		say("making image %s", i.name)
		program := "/" + string(i.program)
		img := archive.Image{
			Name: i.name, Entrypoint: []string{program},
			Files: []archive.File{{Source: bin.Path(i.program), Dest: program}},
		}
		if i.tools {
			tools, err := toolFiles(ctx)
			if err != nil {
				return nil, err
			}
			img.Cmd = []string{"pause"}
			img.Files = append(img.Files, tools...)
		}
		if err := archive.Write(img, out); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// toolFiles are the machine's busybox under the names of common tools, and its curl and nc, with the libraries they need.
func toolFiles(ctx context.Context) ([]archive.File, error) {
	var files []archive.File
	have := map[string]bool{}
	add := func(f archive.File) {
		if !have[f.Dest] {
			have[f.Dest] = true
			files = append(files, f)
		}
	}
	addProgram := func(name, dest string) error {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil //nolint:nilerr // The image does without what the machine does not have.
		}
		add(archive.File{Source: path, Dest: dest})
		libraries, err := librariesOf(ctx, path)
		for _, l := range libraries {
			add(archive.File{Source: l, Dest: l})
		}
		return err
	}
	// busybox's shell would prefer busybox's own nc, so the shell is another one where there is one.
	for _, t := range [][2]string{{"busybox", "/bin/busybox"}, {"dash", "/bin/sh"}, {"curl", "/bin/curl"}, {"nc", "/bin/nc"}} {
		if err := addProgram(t[0], t[1]); err != nil {
			return nil, err
		}
	}
	if have["/bin/busybox"] {
		applets := strings.FieldsSeq(`sh nc cat cp cut date dd dirname echo env false find grep head hostname id ip kill ls mkdir mv
			nslookup ping printf ps rm sed seq sleep sort stat tail tee test time timeout touch tr traceroute true uname uniq vi wc wget which xargs`)
		for a := range applets {
			add(archive.File{Link: "/bin/busybox", Dest: "/bin/" + a})
		}
	}
	return files, nil
}

// librariesOf lists the shared libraries that a program loads.
func librariesOf(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") {
			return nil, nil
		}
		return nil, fmt.Errorf("finding the libraries of %s: %w: %s", program, err, out)
	}
	var paths []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths, nil
}

// Load imports image archives on every node. The archives may be anywhere on the machine.
func (c *Cluster) Load(ctx context.Context, files ...string) error {
	var group errgroup.Group
	for _, h := range c.Nodes() {
		group.Go(func() error { return c.loadOn(ctx, h.Name, files) })
	}
	return group.Wait()
}

func (c *Cluster) loadOn(ctx context.Context, host string, files []string) error {
	for _, file := range files {
		if err := c.importImage(ctx, host, file); err != nil {
			return fmt.Errorf("loading %s on %s: %w", file, host, err)
		}
	}
	return nil
}

func (c *Cluster) importImage(ctx context.Context, host, file string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cmd, err := c.Command(ctx, host, "ctr", "-n", "k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
