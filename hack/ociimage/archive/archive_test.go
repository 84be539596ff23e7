package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/hack/ociimage/archive"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := archive.Image{
		Name:       "example.org/app:v1",
		Entrypoint: []string{"/app"},
		Files:      []archive.File{{Source: program, Dest: "/usr/bin/app"}},
	}
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, out := range []string{first, second} {
		if err := archive.Write(img, out); err != nil {
			t.Fatal(err)
		}
	}
	a, b := read(t, first), read(t, second)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("two archives of the same files differ:\n%s", diff)
	}
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal([]byte(a["index.json"]), &index); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"io.containerd.image.name":          "example.org/app:v1",
		"org.opencontainers.image.ref.name": "v1",
	}
	if diff := cmp.Diff(want, index.Manifests[0].Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	layers := 0
	for name, content := range a {
		if !strings.HasPrefix(name, "blobs/") || strings.HasPrefix(content, "{") {
			continue
		}
		layers++
		if got := untar(t, strings.NewReader(content))["usr/bin/app"]; got != "content" {
			t.Errorf("usr/bin/app in the layer: %q, want %q", got, "content")
		}
	}
	if layers != 1 {
		t.Errorf("%d layers, want 1", layers)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		img  archive.Image
		want string
	}{
		"no entry point": {archive.Image{Name: "a:1"}, "no entry point"},
		"bad name":       {archive.Image{Name: "A B", Entrypoint: []string{"/a"}}, `image name "A B"`},
		"missing file": {archive.Image{
			Name: "a:1", Entrypoint: []string{"/a"}, Files: []archive.File{{Source: "/does/not/exist", Dest: "/a"}},
		}, "adding /a: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := archive.Write(tc.img, filepath.Join(t.TempDir(), "x.tar"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestParseFile(t *testing.T) {
	got, err := archive.ParseFile("a/b:/c//d")
	if want := (archive.File{Source: "a/b", Dest: "/c/d"}); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"a", ":/b", "a:b"} {
		if _, err := archive.ParseFile(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func read(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, bytes.NewReader(data))
}

func untar(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
}

func TestParseLink(t *testing.T) {
	got, err := archive.ParseLink("/usr/sbin/iptables-nft:xtables-nft-multi")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(archive.File{Link: "xtables-nft-multi", Dest: "/usr/sbin/iptables-nft"}, got); diff != "" {
		t.Errorf("link (-want +got):\n%s", diff)
	}
	for _, s := range []string{"", "/a", "/a:", "a:b"} {
		if _, err := archive.ParseLink(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}
