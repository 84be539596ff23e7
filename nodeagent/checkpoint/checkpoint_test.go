package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

func network(name string, blocks ...string) *v1alpha1.NodeNetwork {
	return &v1alpha1.NodeNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "7", Generation: 2},
		Spec:       v1alpha1.NodeNetworkSpec{Blocks: blocks},
	}
}

func load(t *testing.T, f *File) map[string]source.Object {
	t.Helper()
	got := map[string]source.Object{}
	if err := f.Load(func(kind source.Kind, o source.Object) { got[string(kind)+" "+o.GetName()] = o }); err != nil {
		t.Fatal(err)
	}
	return got
}

func reopen(t *testing.T, f *File, path string) *File {
	t.Helper()
	if f != nil {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatWasFlushedIsThereAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent", "checkpoint.db")
	f := reopen(t, nil, path)
	f.Set(source.NodeNetwork, network("worker1", "10.48.0.0/26"))
	f.Set(source.NodeNetwork, network("worker2"))
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	f.Delete(source.NodeNetwork, "worker2")
	f.Set(source.SetCatalog, &v1alpha1.SetCatalog{ObjectMeta: metav1.ObjectMeta{Name: "sets-aa"}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	f.Set(source.NodeNetwork, network("worker3")) // not flushed
	f = reopen(t, f, path)
	want := map[string]source.Object{
		"NodeNetwork worker1": network("worker1", "10.48.0.0/26"),
		"SetCatalog sets-aa":  &v1alpha1.SetCatalog{ObjectMeta: metav1.ObjectMeta{Name: "sets-aa"}},
	}
	if d := cmp.Diff(want, load(t, f)); d != "" {
		t.Error(d)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableCheckpointIsMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	f := reopen(t, nil, path)
	if got := load(t, f); len(got) != 0 {
		t.Errorf("got %v out of garbage", got)
	}
	if _, err := os.Stat(path + ".unreadable"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is not written stays noted, but for what is newer.
func TestAFailedFlushForgetsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint.db")
	f := reopen(t, nil, path)
	f.Set(source.NodeNetwork, network("a", "10.48.0.0/26"))
	f.Set(source.NodeNetwork, network("b"))
	f.Set(source.NodeNetwork, network("")) // which the file does not take
	if err := f.Flush(); err == nil || !f.HasPending() {
		t.Fatalf("flush: %v, pending: %t", err, f.HasPending())
	}
	f.Delete(source.NodeNetwork, "")
	f.Set(source.NodeNetwork, network("b", "10.48.1.0/26"))
	if err := f.Flush(); err != nil || f.HasPending() {
		t.Fatalf("flush: %v, pending: %t", err, f.HasPending())
	}
	f = reopen(t, f, path)
	defer func() { _ = f.Close() }()
	want := map[string]source.Object{
		"NodeNetwork a": network("a", "10.48.0.0/26"), "NodeNetwork b": network("b", "10.48.1.0/26"),
	}
	if d := cmp.Diff(want, load(t, f)); d != "" {
		t.Errorf("on disk (-want +got):\n%s", d)
	}
}
