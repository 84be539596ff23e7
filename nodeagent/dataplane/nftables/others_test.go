package nftables

import (
	"os/exec"
	"testing"

	"github.com/manul-net/manul/test/netns"
)

// Kube-proxy in mode iptables is known by its chain, whichever family it has.
func TestKubeProxyByItsChain(t *testing.T) {
	for commands, want := range map[string]bool{
		"true": false,
		"iptables-nft -t nat -N KUBE-POSTROUTING": false,
		"iptables-nft -t nat -N KUBE-SERVICES":    true,
		"ip6tables-nft -t nat -N KUBE-SERVICES":   true,
		"iptables-nft -t filter -N KUBE-SERVICES": false,
		"nft add table ip kube-proxy":             false,
	} {
		t.Run(commands, func(t *testing.T) {
			t.Parallel()
			ns := netns.New(t)
			ns.Must("looking for kube-proxy", func() error {
				if out, err := exec.CommandContext(t.Context(), "sh", "-ec", commands).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if got := KubeProxyByIPTables(); got != want {
					t.Errorf("KubeProxyByIPTables = %v, want %v", got, want)
				}
				return nil
			})
		})
	}
}
