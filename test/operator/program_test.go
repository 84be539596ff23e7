package operator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/manul-net/manul/test/apiserver"
)

// TestProgram builds the operator, runs it as a process, and asks what a kubelet and Prometheus would.
func TestProgram(t *testing.T) {
	k := newCluster(t)
	binary := filepath.Join(t.TempDir(), "manul-operator")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version=v9.9.9", "-o", binary, ".")
	build.Dir = apiserver.Root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the operator: %v\n%s", err, out)
	}
	version, err := exec.CommandContext(t.Context(), binary, "--version").Output()
	k.must(err, "asking for the version")
	if !strings.Contains(string(version), "v9.9.9") {
		t.Errorf("the version is %q", version)
	}

	health, metrics := apiserver.FreeAddress(t), apiserver.FreeAddress(t)
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, "--kubeconfig", k.server.Kubeconfig, "--leader-elect",
		"--health-probe-bind-address", health, "--metrics-bind-address", metrics, "--default-ipv4-pool", "10.48.0.0/16")
	cmd.Stderr = &log
	k.must(cmd.Start(), "starting the operator")
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("its log:\n%s", log.String())
		}
	})
	k.eventually("the operator is ready", func() error { _, err := ask(t, health, "/readyz"); return err })
	if _, err := ask(t, health, "/healthz"); err != nil {
		t.Error(err)
	}
	k.eventually("it leads, and counts its work", func() error {
		text, err := ask(t, metrics, "/metrics")
		if err == nil && !strings.Contains(text, `controller_runtime_reconcile_total{controller="tiers",result="success"}`) {
			err = errors.New("its metrics do not show the controller of tiers at work")
		}
		return err
	})
	k.eventually("it tells how large the pool is", func() error {
		text, err := ask(t, metrics, "/metrics")
		if err == nil && !strings.Contains(text, `ipam_ippool_size{ippool="default-ipv4-ippool"} 65536`) {
			err = errors.New("its metrics do not show the pool")
		}
		return err
	})
	k.must(cmd.Process.Signal(syscall.SIGTERM), "ending the operator")
	if err := cmd.Wait(); err != nil {
		t.Errorf("told to end, the operator ended with %v", err)
	}
}

func TestProgramRefusesBadFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"--default-ipv4-pool": {"--default-ipv4-pool", "10.48.3.0/16"},
		"--log-level":         {"--log-level", "loud"},
		"--kubeconfig":        {},
		"unknown command":     {"now"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "."}, args...)...)
		cmd.Dir = apiserver.Root(t)
		cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v, want an error that names %s:\n%s", args, err, want, out)
		}
	}
}

func ask(t *testing.T, address, path string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("asking %s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}
