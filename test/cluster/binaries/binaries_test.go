package binaries

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The versions that images are named after are those that the build modules pin.
func TestVersionsMatchModules(t *testing.T) {
	dir, err := sourceDir()
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{
		"kubernetes": "k8s.io/kubernetes " + KubernetesVersion,
		"coredns":    "github.com/coredns/coredns " + CoreDNSVersion,
	} {
		data, err := os.ReadFile(filepath.Join(dir, module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), want+"\n") {
			t.Errorf("build/%s/go.mod does not require %s", module, want)
		}
	}
}

func TestModuleKeyFollowsContent(t *testing.T) {
	dir := t.TempDir()
	key := func() string {
		k, err := moduleKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(content string) {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	one := key()
	if again := key(); again != one {
		t.Errorf("key changed from %s to %s", one, again)
	}
	write("two")
	if two := key(); two == one {
		t.Error("key did not change with the content")
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	waited := false
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, path, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("locking a held lock: %v, waited %t", err, waited)
	}
	unlock()
	unlock, err = Lock(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestPruneKeepsTheNewest(t *testing.T) {
	bin := t.TempDir()
	for i, name := range []string{"kubernetes-a", "kubernetes-b", "kubernetes-c", "coredns-a"} {
		dir := filepath.Join(bin, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
	}
	set := Set{dirs: map[string]string{"kubernetes": filepath.Join(bin, "kubernetes-a"), "coredns": filepath.Join(bin, "coredns-a")}}
	if err := prune(bin, set); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"kubernetes-a": true, "kubernetes-b": false, "kubernetes-c": true, "coredns-a": true} {
		if _, err := os.Stat(filepath.Join(bin, name)); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", name, err == nil, want)
		}
	}
}

func TestLinkMovesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd")
	for _, target := range []string{"one", "one", "two"} {
		if err := link(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("link leads to %s, %v, want %s", got, err, target)
		}
	}
}
