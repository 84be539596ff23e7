// Package e2e holds the tests on a real cluster: the walk-through, then failures of each part while pods exchange traffic.
package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/e2e/lab"
	"github.com/manul-net/manul/test/e2e/walkthrough"
)

// TestCluster brings up one cluster, which all its tests share in order: the walk-through installs Manul on it. The other cluster of
// this package is there at the same time.
//
// MANUL_CLUSTER=demo go test -run TestCluster runs the others on a cluster of that name, which has Manul already.
func TestCluster(t *testing.T) {
	t.Parallel()
	if name := os.Getenv("MANUL_CLUSTER"); name != "" {
		project, err := filepath.Abs("../..")
		if err != nil {
			t.Fatal(err)
		}
		rest(t, &lab.Cluster{Project: project, Name: name, Log: writer{t}})
		return
	}
	c := up(t, "e2e", "nftables")
	if !t.Run("Walkthrough", func(t *testing.T) { walk(t, c, "nftables") }) {
		return
	}
	rest(t, c)
}

// rest is what follows the walk-through.
func rest(t *testing.T, c *lab.Cluster) {
	clear(t, c)
	t.Run("TruthTable", func(t *testing.T) { truthTable(t, c) })
	t.Run("Paths", func(t *testing.T) { paths(t, c) })
	t.Run("Limits", func(t *testing.T) { limits(t, c) })
	t.Run("Addresses", func(t *testing.T) { addresses(t, c) })
	t.Run("Failures", func(t *testing.T) { failures(t, c, kinds()) })
	t.Run("Nodes", func(t *testing.T) { lostNode(t, c) })
	t.Run("Power", func(t *testing.T) { power(t, c) })
	t.Run("Crashes", func(t *testing.T) { crashes(t, c) })
}

// crashes looks for parts of Manul that ended by a panic and were started again, which nothing else may have noticed.
func crashes(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	list, err := c.Kubectl(ctx, "get", "pods", "-n", "manul-system", "-o", `jsonpath={range .items[?(@.status.containerStatuses[0].restartCount>0)]}{.metadata.name}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	for pod := range strings.FieldsSeq(list) {
		log, err := c.Kubectl(ctx, "logs", "-n", "manul-system", pod, "--previous", "--tail=60")
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(log, "goroutine ") {
			t.Errorf("%s ended by a panic:\n%s", pod, log)
		}
	}
}

// clear removes what the walk-through leaves behind that concerns all namespaces and hosts.
func clear(t *testing.T, c *lab.Cluster) {
	t.Helper()
	ctx := t.Context()
	for _, args := range [][]string{
		{"delete", "globalnetworkpolicies", "--all"},
		{"delete", "tiers", "security", "--ignore-not-found"},
		{"delete", "kubecontrollersconfigurations", "--all"},
		{"patch", "felixconfiguration", "default", "--type=merge", "-p", `{"spec":{"failsafeInboundHostPorts":null}}`},
	} {
		if _, err := c.Kubectl(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBesideIPTables does the same beside a kube-proxy in iptables mode, where the agents use iptables; and they change to
// nftables and back while pods exchange traffic.
func TestBesideIPTables(t *testing.T) {
	t.Parallel()
	c := up(t, "e2eiptables", "iptables")
	if !t.Run("Walkthrough", func(t *testing.T) { walk(t, c, "iptables") }) {
		return
	}
	inUse(t, c, "iptables")
	clear(t, c)
	t.Run("TruthTable", func(t *testing.T) { truthTable(t, c) })
	t.Run("Changes", func(t *testing.T) { failures(t, c, changesOfDataplane()) })
	inUse(t, c, "iptables")
	t.Run("Power", func(t *testing.T) { power(t, c) })
	t.Run("Crashes", func(t *testing.T) { crashes(t, c) })
}

// up brings up a cluster without a network, for as long as the test runs.
func up(t *testing.T, name, proxy string) *lab.Cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a local cluster needs root")
	}
	project, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	images, err := lab.Images(project)
	if err != nil {
		t.Fatal(err)
	}
	c := &lab.Cluster{Project: project, Name: name, Log: writer{t}}
	ctx := t.Context()
	if err := c.Down(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(context.WithoutCancel(ctx), t, c)
		}
		if os.Getenv("MANUL_KEEP_CLUSTER") != "" {
			return
		}
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := c.Up(ctx, lab.Options{Workers: 2, Proxy: proxy, CNI: "none", Images: images}); err != nil {
		t.Fatal(err)
	}
	return c
}

func walk(t *testing.T, c *lab.Cluster, dataplane string) {
	t.Helper()
	shims, err := c.Shims()
	if err != nil {
		t.Fatal(err)
	}
	r := &walkthrough.Runner{Out: writer{t}, Dir: c.Project, Env: []string{"PATH=" + shims + ":" + os.Getenv("PATH")}}
	for _, l := range walkthrough.Labs(dataplane) {
		if err := r.Lab(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
}

// describe logs what one would look at first.
func describe(ctx context.Context, t *testing.T, c *lab.Cluster) {
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "nodestates,policyprograms"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"logs", "-n", "manul-system", "deploy/manul-operator", "--tail=40"},
		{"logs", "-n", "manul-system", "ds/manul-node", "--tail=40", "--all-pods", "--prefix"},
	} {
		out, err := c.Kubectl(ctx, args...)
		t.Logf("kubectl %v: %v\n%s", args, err, out)
	}
}

// writer passes what a command says on to the test's log.
type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Helper()
	for line := range bytes.Lines(p) {
		w.t.Logf("%s", bytes.TrimRight(line, "\n"))
	}
	return len(p), nil
}
