package cluster

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/manul-net/manul/test/cluster/procfs"
)

// TestNamespacesThatAreRemovedAreToldFromLaterOnes: a cluster that goes must not take the pods of another, which come meanwhile, for its own.
func TestNamespacesThatAreRemovedAreToldFromLaterOnes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run it as root: it makes network namespaces")
	}
	prefix := fmt.Sprintf("manul-held-%d-", os.Getpid())
	add := func(name string) {
		t.Helper()
		if err := addNamespace(prefix + name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := deleteNamespace(prefix + name); err != nil {
				t.Error(err)
			}
		})
	}
	add("old-1")
	add("old-2")
	old, release, err := procfs.HoldNamespaces(namespaceDir, prefix+"old-")
	defer release()
	if err != nil || len(old) != 2 {
		t.Fatalf("found %v, %v", old, err)
	}
	for _, name := range []string{"old-1", "old-2"} {
		if err := deleteNamespace(prefix + name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 { // the kernel gives numbers up some time after a namespace is gone
		name := fmt.Sprintf("new-%d", i)
		add(name)
		later, releaseLater, err := procfs.HoldNamespaces(namespaceDir, prefix+name)
		if err != nil || len(later) != 1 {
			t.Fatalf("found %v, %v", later, err)
		}
		if slices.Contains(old, later[0]) {
			t.Fatalf("namespace %v is taken for one that was removed", later[0])
		}
		releaseLater()
		if err := deleteNamespace(prefix + name); err != nil {
			t.Fatal(err)
		}
	}
}
