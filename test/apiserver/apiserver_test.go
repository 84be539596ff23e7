package apiserver

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestFindBinaries(t *testing.T) {
	dir := t.TempDir()
	env := func(key string) string { return map[string]string{EnvBin: dir}[key] }
	if _, err := findBinaries(env); err == nil || !strings.Contains(err.Error(), EnvBin) {
		t.Errorf("empty folder: got error %v, want one that names %s", err, EnvBin)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := findBinaries(env); err == nil || !strings.Contains(err.Error(), "not an executable") {
		t.Errorf("files without the executable bit: got error %v", err)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findBinaries(env)
	if err != nil || got.etcd != filepath.Join(dir, "etcd") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRequired(t *testing.T) {
	for want, env := range map[bool]map[string]string{true: {"CI": "true"}, false: {"CI": "", EnvRequire: "0"}} {
		if got := required(func(key string) string { return env[key] }); got != want {
			t.Errorf("with %v: got %v, want %v", env, got, want)
		}
	}
	if !required(func(key string) string { return map[string]string{EnvRequire: "1"}[key] }) {
		t.Errorf("with %s=1: got false", EnvRequire)
	}
}

// TestServer starts a server, installs the project's kinds twice and writes an object; afterwards nothing is left.
func TestServer(t *testing.T) {
	var address, dir string
	t.Run("lifetime", func(t *testing.T) {
		s := Start(t)
		s.InstallProjectCRDs(t)
		s.InstallProjectCRDs(t)
		scheme := runtime.NewScheme()
		if err := corev1.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
		pod.Name, pod.Namespace = "a", "default"
		c := s.Client(t, scheme)
		if err := c.Create(t.Context(), pod); err != nil {
			t.Fatalf("creating a pod without a service account: %v", err)
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(s.Config.Host)
		if err != nil {
			t.Fatal(err)
		}
		address, dir = u.Host, filepath.Dir(s.Kubeconfig)
	})
	if address == "" {
		return // skipped or failed
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Errorf("%s still answers after the test", address)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("folder %s is still there after the test", dir)
	}
}
