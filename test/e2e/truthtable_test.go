package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/e2e/lab"
	"github.com/manul-net/manul/test/e2e/truthtable"
)

// truthTable tries every policy of a list.
func truthTable(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	clusterPolicies(t, c)
	r, err := truthtable.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range truthtable.Cases() {
		t.Run(tc.Name, func(t *testing.T) {
			if err := r.Run(ctx, tc); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("%d cases, %d rounds of %d probes", len(truthtable.Cases()), r.Rounds, len(truthtable.Probes()))
}

// clusterPolicies installs the kind ClusterNetworkPolicy, as its project publishes it. Manul takes it up when it comes.
func clusterPolicies(t *testing.T, c *lab.Cluster) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/network-policy-api").Output()
	if err != nil {
		t.Fatalf("finding the module of ClusterNetworkPolicy: %v", err)
	}
	crd := filepath.Join(strings.TrimSpace(string(out)), "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml")
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", crd},
		{"wait", "--for=condition=Established", "crd/clusternetworkpolicies.policy.networking.k8s.io", "--timeout=60s"},
	} {
		if _, err := c.Kubectl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
}
