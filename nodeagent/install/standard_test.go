package install

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestStandardPluginsLeaveTheNodesOwn(t *testing.T) {
	from, dir := t.TempDir(), filepath.Join(t.TempDir(), "opt", "bin")
	record := filepath.Join(t.TempDir(), "state", "installed.json")
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install := func(want map[string]string, stay ...string) {
		t.Helper()
		left, err := StandardPlugins(from, dir, record)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(left, stay) {
			t.Errorf("the node's own: %v, want %v", left, stay)
		}
		for name, content := range want {
			if got := string(read(t, filepath.Join(dir, name))); got != content {
				t.Errorf("%s: %q, want %q", name, got, content)
			}
		}
	}
	write(filepath.Join(from, "portmap"), "portmap 1")
	write(filepath.Join(from, "tuning"), "tuning 1")
	write(filepath.Join(dir, "tuning"), "the node's")
	install(map[string]string{"portmap": "portmap 1", "tuning": "the node's"}, "tuning")
	info, err := os.Stat(filepath.Join(dir, "portmap"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("portmap can't be run: %v, %v", info, err)
	}

	// A new release brings new ones, again only where the old ones were not the node's.
	write(filepath.Join(from, "portmap"), "portmap 2")
	write(filepath.Join(from, "tuning"), "tuning 2")
	install(map[string]string{"portmap": "portmap 2", "tuning": "the node's"}, "tuning")

	// Somebody puts another one in its place: it is the node's own from then on, even when it is what was installed once.
	write(filepath.Join(dir, "portmap"), "portmap 1")
	install(map[string]string{"portmap": "portmap 1"}, "portmap", "tuning")

	// One that was removed is installed again.
	for _, name := range []string{"portmap", "tuning"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	install(map[string]string{"portmap": "portmap 2", "tuning": "tuning 2"})

	// Killed between the record and the program: the next start goes on.
	write(filepath.Join(from, "portmap"), "portmap 3")
	installed := readRecord(record)
	installed["portmap"] = append(installed["portmap"], digestOf([]byte("portmap 3")))
	if err := writeRecord(record, installed); err != nil {
		t.Fatal(err)
	}
	install(map[string]string{"portmap": "portmap 3"})
	if n := len(readRecord(record)["portmap"]); n != 1 {
		t.Errorf("%d programs count as installed, want 1", n)
	}

	from = filepath.Join(from, "none")
	install(nil)
}
