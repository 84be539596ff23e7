// Package archive writes OCI image archives from files, without Docker and without a registry. The archives are what
// `ctr images import`, `docker load` (25 and later) and `podman load` read. The same files give the same bytes.
package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations by which an importer learns the name of an image: containerd reads the first, the OCI layout
// specification has the second.
const (
	nameAnnotation = "io.containerd.image.name"
	refAnnotation  = "org.opencontainers.image.ref.name"
)

// File is one file of the image.
type File struct {
	// Source is a path on this machine; symbolic links are followed.
	Source string
	// Link makes Dest a symbolic link to this path in the image, without a Source.
	Link string
	// Dest is the absolute path in the image. The file becomes executable, owned by root.
	Dest string
}

// Image says what goes into an archive.
type Image struct {
	// Name is the reference under which a cluster finds the image, for example "registry.k8s.io/pause:3.10.2".
	Name string
	// Entrypoint is the program of the image with its fixed arguments.
	Entrypoint []string
	// Cmd are the arguments that a user of the image replaces; optional.
	Cmd []string
	// User is "uid", "uid:gid" or a name; empty means root.
	User string
	// Env are variables as KEY=value; PATH is set unless given.
	Env []string
	// Files go into one layer.
	Files []File
}

// ParseFile reads "SOURCE:DEST".
func ParseFile(s string) (File, error) {
	source, dest, ok := strings.Cut(s, ":")
	if !ok || source == "" || !path.IsAbs(dest) {
		return File{}, fmt.Errorf("file %q: want SOURCE:DEST with an absolute DEST", s)
	}
	return File{Source: source, Dest: path.Clean(dest)}, nil
}

// ParseLink reads "DEST:TARGET".
func ParseLink(s string) (File, error) {
	dest, target, ok := strings.Cut(s, ":")
	if !ok || target == "" || !path.IsAbs(dest) {
		return File{}, fmt.Errorf("link %q: want DEST:TARGET with an absolute DEST", s)
	}
	return File{Link: target, Dest: path.Clean(dest)}, nil
}

// Write writes the archive to the file out, by way of a temporary file next to it, so that a reader never sees half of it.
func Write(img Image, out string) error {
	built, err := build(img)
	if err != nil {
		return fmt.Errorf("building image %s: %w", img.Name, err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".oci-*")
	if err != nil {
		return fmt.Errorf("building image %s: %w", img.Name, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ref, err := name.ParseReference(img.Name, name.WithDefaultTag("latest"))
	if err != nil {
		return fmt.Errorf("image name %q: %w", img.Name, err)
	}
	l, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		return fmt.Errorf("building image %s: %w", img.Name, err)
	}
	err = l.AppendImage(built, layout.WithAnnotations(map[string]string{
		nameAnnotation: ref.Name(),
		refAnnotation:  ref.Identifier(),
	}))
	if err != nil {
		return fmt.Errorf("building image %s: %w", img.Name, err)
	}
	file := filepath.Join(dir, "image.tar")
	if err := tarFolder(filepath.Join(dir, "layout"), file); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	if err := os.Rename(file, out); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	return nil
}

func build(img Image) (v1.Image, error) {
	if len(img.Entrypoint) == 0 {
		return nil, errors.New("no entry point: say which program the image runs")
	}
	data, err := layer(img.Files)
	if err != nil {
		return nil, err
	}
	built := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	built = mutate.ConfigMediaType(built, types.OCIConfigJSON)
	// The layer is stored as it is: these archives go from one folder of a machine to another, and unpacking is what costs.
	built, err = mutate.Append(built, mutate.Addendum{
		Layer:   static.NewLayer(data, types.OCIUncompressedLayer),
		History: v1.History{CreatedBy: "hack/ociimage"},
	})
	if err != nil {
		return nil, err
	}
	env := img.Env
	if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "PATH=") }) {
		env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture = runtime.GOARCH
	config.OS = "linux"
	config.Config = v1.Config{Entrypoint: img.Entrypoint, Cmd: img.Cmd, User: img.User, Env: env}
	return mutate.ConfigFile(built, config)
}

// layer makes the one layer: the files, and the folders that programs expect to find.
func layer(files []File) ([]byte, error) {
	dirs := map[string]int64{"tmp": 0o1777}
	for _, d := range []string{"bin", "dev", "etc", "proc", "run", "sys", "var"} {
		dirs[d] = 0o755
	}
	for _, f := range files {
		for d := path.Dir(strings.TrimPrefix(f.Dest, "/")); d != "."; d = path.Dir(d) {
			if _, ok := dirs[d]; !ok {
				dirs[d] = 0o755
			}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	names := make([]string, 0, len(dirs))
	for d := range dirs {
		names = append(names, d)
	}
	slices.Sort(names)
	for _, d := range names {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: dirs[d], ModTime: epoch()})
		if err != nil {
			return nil, fmt.Errorf("adding folder /%s: %w", d, err)
		}
	}
	sorted := slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b File) int { return cmp.Compare(a.Dest, b.Dest) })
	for i, f := range sorted {
		if i > 0 && sorted[i-1].Dest == f.Dest {
			return nil, fmt.Errorf("file %s is given twice", f.Dest)
		}
		if err := addTo(w, f); err != nil {
			return nil, fmt.Errorf("adding %s: %w", f.Dest, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func addTo(w *tar.Writer, f File) error {
	dest := strings.TrimPrefix(f.Dest, "/")
	if f.Link == "" {
		return addFile(w, f.Source, dest, 0o755)
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dest, Linkname: f.Link, Mode: 0o777, ModTime: epoch()})
}

// epoch is the time of everything in an archive, for the same bytes each time.
func epoch() time.Time { return time.Unix(0, 0) }

func addFile(w *tar.Writer, source, dest string, mode int64) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", source)
	}
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dest, Size: info.Size(), Mode: mode, ModTime: epoch()})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

func tarFolder(dir, out string) (err error) {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return addFile(w, p, filepath.ToSlash(rel), 0o644)
	})
	if err != nil {
		return err
	}
	return w.Close()
}
