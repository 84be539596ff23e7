// Package cniplugins builds CNI plugins for tests: the project's own, and the reference plugins of the CNI project, for lists of several.
package cniplugins

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds plugins, such as "main/ptp", into a new folder.
func Build(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-C", filepath.Join(root(t), "hack", "cniplugins"), "build", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "github.com/containernetworking/plugins/plugins/"+name)
	}
	build := exec.CommandContext(t.Context(), "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building plugins: %v: %s", err, out)
	}
	return dir
}

// root is the project's folder: tests run in that of their package.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "PROJECT")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no folder above the test's is the project's")
		}
	}
}
