package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// nodes of the test's cluster.
func nodes() []string { return []string{"master1", "worker1", "worker2"} }

// changesOfDataplane are no failures, but the same must hold while they happen.
func changesOfDataplane() []failure {
	to := func(mode, dataplane string) func(context.Context, *lab.Cluster) error {
		return func(ctx context.Context, c *lab.Cluster) error {
			patch := fmt.Sprintf(`{"spec":{"nftablesMode":%q}}`, mode)
			if _, err := c.Kubectl(ctx, "patch", "felixconfigurations.projectcalico.org", "default", "--type=merge", "-p", patch); err != nil {
				return err
			}
			return lab.Eventually(ctx, time.Minute, func(ctx context.Context) error { return uses(ctx, c, dataplane) })
		}
	}
	return []failure{
		{name: "from iptables to nftables", kill: to("Enabled", "nftables"), control: true},
		{name: "to iptables, by settings", kill: to("Disabled", "iptables"), control: true},
		{name: "to nftables again", kill: to("Enabled", "nftables"), control: true},
		{name: "to that of kube-proxy", kill: to("Auto", "iptables"), control: true},
	}
}

// uses tells why not all nodes use a dataplane and no other.
func uses(ctx context.Context, c *lab.Cluster, dataplane string) error {
	out, err := c.Kubectl(ctx, "get", "nodestates", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.dataplane} {end}`)
	if err != nil {
		return err
	}
	for _, node := range nodes() {
		if !strings.Contains(out, node+"="+dataplane+" ") {
			return fmt.Errorf("want %s on %s, have %s", dataplane, node, out)
		}
	}
	for _, node := range nodes() {
		for name, command := range map[string]string{
			"nftables": "nft list tables inet | grep -w manul || true",
			// Chains and sets: kube-proxy's comments name services of the namespace manul-system.
			"iptables": "(iptables-save; ip6tables-save; ipset list -n) 2>/dev/null | grep -E '^:manul-|^-A manul-| -j manul-|^manul[46]-' || true",
		} {
			out, err := c.On(ctx, node, "sh", "-c", command)
			if err != nil {
				return err
			}
			if found := out != ""; found != (name == dataplane) {
				return fmt.Errorf("%s on %s: found anything: %v:\n%s", name, node, found, out[:min(len(out), 500)])
			}
		}
	}
	return nil
}

func inUse(t *testing.T, c *lab.Cluster, dataplane string) {
	t.Helper()
	eventually(t, "all nodes use "+dataplane, func(ctx context.Context) error { return uses(ctx, c, dataplane) })
}
