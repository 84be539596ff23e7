package measured

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"traffic.txt": "goos: linux\nBenchmarkConnections/no-policy-2  \t  100\t 9000 connections/s\nBenchmarkConnections/no-policy-2  \t  100\t 8000 connections/s\nPASS\n",
		"changes.md":  "Some words.\n\n| figure | n | p50 | p99 |\n|---|---|---|---|\n| policy | 60 | 1.25 ms | 1,040.5 ms |\n| size | 1 | 3.9 MiB | |\n",
		"notes.log":   "nothing",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Figures{
		"traffic": {"Connections/no-policy": {{"connections/s", 9000}, {"connections/s", 8000}}},
		"changes": {"policy": {{"n", 60}, {"p50", 1.25}, {"p99", 1040.5}}, "size": {{"n", 1}, {"p50", 3.9}}},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if got := f.Of("traffic", "Connections/no-policy", "connections/s"); !cmp.Equal(got, []float64{8000, 9000}) {
		t.Errorf("in order: %v", got)
	}
	if got := f.Files("c"); !cmp.Equal(got, []string{"changes"}) {
		t.Errorf("files: %v", got)
	}
}

func TestATableWithTooManyCellsIsRefused(t *testing.T) {
	if _, err := tables([]byte("| a | b |\n|---|---|\n| x | 1 | 2 |\n")); err == nil {
		t.Error("it was read")
	}
}
