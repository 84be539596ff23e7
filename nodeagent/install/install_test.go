package install

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/manul-net/manul/cni/conflist"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPluginIsReplacedInOneStep(t *testing.T) {
	dir := t.TempDir()
	from, plugins := filepath.Join(dir, "image", "manul"), filepath.Join(dir, "opt", "bin")
	if err := os.MkdirAll(filepath.Dir(from), 0o700); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(plugins, "manul")
	var last os.FileInfo
	for _, content := range [][]byte{bytes.Repeat([]byte("a"), 200_000), bytes.Repeat([]byte("b"), 200_000), []byte("c"), nil} {
		if err := os.WriteFile(from, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Plugin(from, plugins); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, to), content) {
			t.Error("content differs")
		}
		info, err := os.Stat(to)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o755 {
			t.Errorf("mode %v", info.Mode())
		}
		if last != nil && os.SameFile(last, info) {
			t.Error("the file was written over, not replaced")
		}
		last = info
		if err := Plugin(from, plugins); err != nil {
			t.Fatal(err)
		}
		if again, err := os.Stat(to); err != nil || !os.SameFile(again, info) {
			t.Errorf("replaced by the same: %v", err)
		}
	}
	left, err := os.ReadDir(plugins)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestConfigurationHasPortMapOnlyWhereItIsInstalled(t *testing.T) {
	dir, plugins := t.TempDir(), t.TempDir()
	if err := Configuration(dir, plugins, conflist.Options{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, conflist.FileName)
	if bytes.Contains(read(t, path), []byte("portmap")) {
		t.Error("names a plugin that is not there")
	}
	if err := os.WriteFile(filepath.Join(plugins, "portmap"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Configuration(dir, plugins, conflist.Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(read(t, path), []byte("portmap")) {
		t.Error("does not name a plugin that is there")
	}
}
