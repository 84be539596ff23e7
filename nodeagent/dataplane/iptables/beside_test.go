package iptables

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// Policy is final: what it allows passes where the host's own rules would drop it. What is none of its business, and
// traffic to the host that is left to the host's rules, is for these to decide.
func TestBesideTheHostsRules(t *testing.T) { eachVariant(t, testBesideTheHostsRules) }

func testBesideTheHostsRules(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	n.shell("for x in iptables ip6tables; do $x -P FORWARD DROP; $x -A INPUT -p tcp --dport 81 -j DROP; done")
	p := packets.NewTables()
	p.Settings.EndpointToHost = tables.HostReturn
	n.Apply(p)
	n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
		return []packets.Probe{
			packets.TCP(f, packets.ClientPod, packets.ServerPod, 80, true), packets.TCP(f, packets.ClientPod, packets.Outside, 80, true), packets.TCP(f, packets.Outside, packets.ClientPod, 80, true),
			packets.TCP(f, packets.ClientPod, packets.HostSide, 80, true), packets.TCP(f, packets.ClientPod, packets.HostSide, 81, false), packets.TCP(f, packets.Outside, packets.HostSide, 81, false),
		}
	})...)
	p.Settings.EndpointToHost, p.SettingsDirty = tables.HostAccept, true
	n.Apply(p)
	n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.HostSide, 81, true), packets.TCP(packets.IPv4, packets.Outside, packets.HostSide, 81, false))
}

// Other bits of the packet mark go through policy as they are, and the driver's own are clear behind it, whatever they
// were before.
func TestMarks(t *testing.T) { eachVariant(t, testMarks) }

func testMarks(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	for _, before := range []string{"0x4000", "0xfc000", "0x44001", "0x84000"} {
		n.shell("for x in iptables ip6tables; do $x -t mangle -F; $x -t mangle -A PREROUTING -j MARK --set-mark " + before +
			"; $x -t mangle -A POSTROUTING -p tcp -m mark ! --mark 0x4000/0xc4000 -j DROP; done")
		p := packets.NewTables()
		p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Pass, unix.IPPROTO_TCP, 80, 82), packets.Rule(tables.Allow, unix.IPPROTO_TCP, 81)}})
		p.Programs.Set("next", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80)}})
		p.Programs.Set("out", tables.Program{Egress: []tables.Rule{packets.Rule(tables.Pass, unix.IPPROTO_TCP, 81), {Action: tables.Allow}}})
		server, client := packets.Unrestricted(packets.ServerPod), packets.Unrestricted(packets.ClientPod)
		server.Ingress = []tables.Tier{packets.Tier(tables.Deny, "in"), packets.Tier(tables.Deny, "next")}
		client.Egress = []tables.Tier{packets.Tier(tables.Deny, "out")}
		p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), server)
		p.Endpoints.Set(packets.InterfaceOf(packets.ClientPod), client)
		n.driver().Resync()
		n.Apply(p)
		n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
			return []packets.Probe{
				packets.TCP(f, packets.ClientPod, packets.ServerPod, 80, true), packets.TCP(f, packets.ClientPod, packets.ServerPod, 81, true), packets.TCP(f, packets.ClientPod, packets.ServerPod, 82, false),
				packets.TCP(f, packets.ClientPod, packets.ServerPod, 83, false), packets.TCP(f, packets.OtherPod, packets.ServerPod, 80, true), packets.TCP(f, packets.ClientPod, packets.Outside, 81, true),
			}
		})...)
	}
}

func TestKubeProxy(t *testing.T) {
	for commands, want := range map[string]bool{
		"true": false, "iptables-nft -t nat -N KUBE-SERVICES": true, "ip6tables-legacy -w -t nat -N KUBE-SERVICES": true, "iptables-nft -t mangle -N KUBE-IPTABLES-HINT": false,
	} {
		t.Run(commands, func(t *testing.T) {
			t.Parallel()
			ns := netns.New(t)
			output(t, ns, "sh", "-ec", commands)
			ns.Must("looking for kube-proxy", func() error {
				got, err := KubeProxy(t.Context())
				if got != want {
					t.Errorf("KubeProxy = %v, want %v", got, want)
				}
				return err
			})
		})
	}
}

// Left to choose, the driver uses what the kubelet and others use.
func TestChoice(t *testing.T) {
	found, err := installed(t.Context())
	if err != nil || len(found) < 2 {
		t.Skipf("kernel test: it takes both variants of iptables: %v", err)
	}
	plain, err := versionOf(t.Context(), "iptables")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		commands string
		want     Variant
	}{
		"nothing there":           {"true", plain},
		"kubelet uses legacy":     {"iptables-legacy -w -t mangle -N KUBE-IPTABLES-HINT; iptables-nft -A INPUT -j ACCEPT", Legacy},
		"kubelet uses nft":        {"iptables-nft -t mangle -N KUBE-IPTABLES-HINT; iptables-legacy -w -A INPUT -j ACCEPT", NFT},
		"older kubelet":           {"ip6tables-legacy -w -t mangle -N KUBE-KUBELET-CANARY; iptables-nft -A INPUT -j ACCEPT", Legacy},
		"more rules in legacy":    {"iptables-legacy -w -A INPUT -j ACCEPT; iptables-legacy -w -A INPUT -j ACCEPT; iptables-nft -A INPUT -j ACCEPT", Legacy},
		"more rules in nft":       {"ip6tables-nft -A INPUT -j ACCEPT", NFT},
		"our own rules don't say": {`iptables-legacy -w -A INPUT -m comment --comment "manul:hook" -j ACCEPT; iptables-nft -A INPUT -j ACCEPT`, NFT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := netns.New(t)
			output(t, ns, "sh", "-ec", tc.commands)
			d := openIn(t, ns, Auto)
			defer d.Close()
			if got := d.Variant(); got != tc.want {
				t.Errorf("chose %q, want %q", got, tc.want)
			}
			// Looking made no tables: an empty one would already cost every packet something.
			if name == "nothing there" {
				if tables := output(t, ns, "cat", "/proc/thread-self/net/ip_tables_names"); strings.TrimSpace(tables) != "" {
					t.Errorf("tables were made: %s", tables)
				}
			}
		})
	}
}
