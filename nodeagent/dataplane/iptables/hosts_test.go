package iptables

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// everything is a host endpoint that needs all hooks, and allows what the programs "allow" does.
func everything() tables.HostEndpoint {
	allow := []tables.Tier{packets.Tier(tables.Pass, "allow")}
	both := tables.Directions{Ingress: allow, Egress: allow}
	return tables.HostEndpoint{Untracked: both, PreDNAT: allow, Forward: both, Local: both, LocalDefault: tables.Allow}
}

func withHosts(p *tables.Policy, h tables.HostEndpoint) *tables.Policy {
	p.Programs.Set("allow", tables.Program{
		Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80, 81)}, Egress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80, 81)},
	})
	p.HostEndpoints.Set("eth0", h)
	p.HostEndpoints.Set(tables.AllInterfaces, h)
	return p
}

// What policy for host endpoints allows is left to the host's own rules, wherever it was allowed.
func TestHostsBesideTheHostsRules(t *testing.T) { eachVariant(t, testHostsBesideTheHostsRules) }

func testHostsBesideTheHostsRules(t *testing.T, variant Variant) {
	allow := []tables.Tier{packets.Tier(tables.Deny, "allow")}
	both := tables.Directions{Ingress: allow, Egress: allow}
	for name, h := range map[string]tables.HostEndpoint{
		"everything": everything(),
		"local":      {Local: both, Forward: both},
		"profile":    {LocalDefault: tables.Allow},
		"early":      {PreDNAT: allow, Local: tables.Directions{Egress: allow}},
		"untracked":  {Untracked: both},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, variant)
			n.shell("for x in iptables ip6tables; do $x -A INPUT -p tcp --dport 81 -j DROP; $x -A OUTPUT -p tcp --dport 81 -j DROP; $x -A FORWARD -p tcp --dport 81 -j DROP; done")
			n.Apply(withHosts(packets.NewTables(), h))
			n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
				const host, x, beside = packets.HostSide, packets.Outside, packets.Beside
				return []packets.Probe{
					packets.TCP(f, x, host, 80, true), packets.TCP(f, x, host, 81, false), packets.TCP(f, host, x, 80, true), packets.TCP(f, host, x, 81, false),
					packets.TCP(f, x, beside, 80, true), packets.TCP(f, x, beside, 81, false), packets.TCP(f, x, packets.ServerPod, 81, true),
				}
			})...)
		})
	}
}

// The driver's bits of the packet mark are clear behind its chains, whatever they were before, and others are as they were.
func TestMarksOfHosts(t *testing.T) { eachVariant(t, testMarksOfHosts) }

func testMarksOfHosts(t *testing.T, variant Variant) {
	for _, before := range []string{"0x4000", "0x1c4000", "0x104001"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, variant)
			n.Apply(withHosts(packets.NewTables(), everything())) // its hooks come first in all chains
			n.shell("for x in iptables ip6tables; do " +
				"$x -t raw -I PREROUTING -p tcp -j MARK --set-mark " + before + "; $x -t raw -I OUTPUT -p tcp -j MARK --set-mark " + before + "; " +
				"for c in 'filter -A INPUT' 'mangle -A POSTROUTING'; do $x -t $c -p tcp -m mark ! --mark 0x4000/0x1c4000 -j DROP; done; done")
			n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
				var probes []packets.Probe
				pairs := [][2]string{
					{packets.Outside, packets.HostSide},
					{packets.HostSide, packets.Outside},
					{packets.OtherSide, packets.Beside},
					{packets.Outside, packets.Beside},
					{packets.Beside, packets.ServerPod},
					{packets.ClientPod, packets.Outside},
				}
				if before != "0x1c4000" { // where no policy is asked, others' bits are theirs
					pairs = append(pairs, [2]string{packets.HostSide, packets.ServerPod}, [2]string{packets.HostSide, packets.HostSide})
				}
				for _, pair := range pairs {
					probes = append(probes, packets.TCP(f, pair[0], pair[1], 80, true), packets.TCP(f, pair[0], pair[1], 90, true))
				}
				return probes
			})...)
		})
	}
}

// What others do to the hooks and chains of host endpoints is undone.
func TestForeignChangesOfHosts(t *testing.T) { eachVariant(t, testForeignChangesOfHosts) }

func testForeignChangesOfHosts(t *testing.T, variant Variant) {
	for name, command := range map[string]string{
		"mangle flushed":            "iptables -t mangle -F",
		"raw flushed":               "ip6tables -t raw -F",
		"an early hook deleted":     "iptables -t mangle -D PREROUTING 1",
		"output hook deleted":       "iptables -D OUTPUT 1",
		"raw output hook not first": "iptables -t raw -I OUTPUT -p tcp -j ACCEPT; iptables -t raw -I OUTPUT -j " + rawOutChain,
		"a rule deleted":            "iptables -t mangle -D " + preDNAT.root() + " 1",
		"a rule added":              "ip6tables -t raw -A " + programChain(ingress, "allow") + " -j ACCEPT",
		"a chain added":             "iptables -t mangle -N " + chainPrefix + "foreign",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, variant)
			p := withHosts(packets.NewTables(), everything())
			n.Apply(p)
			want := n.ours(t)
			n.shell(command)
			if slices.Equal(want, n.ours(t)) {
				t.Fatal("the command changed nothing")
			}
			if variant == NFT {
				n.WantChange()
			} else {
				n.driver().watch.due.Store(true)
			}
			n.Apply(p)
			if diff := cmp.Diff(want, n.ours(t)); diff != "" {
				t.Errorf("not undone (-want +got):\n%s", diff)
			}
			if got := n.driver().Disturbances(); got != 1 {
				t.Errorf("%d disturbances were counted, want 1", got)
			}
		})
	}
}

// ours are the lines of a dump that are about the driver's.
func (n *node) ours(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(dump(t, n.NS, n.variant), func(line string) bool { return !strings.Contains(line, "manul") })
}

// A program that the kernel refuses and that decides before addresses are translated stays in its former form there; where
// there is none, what needs it is dropped.
func TestRefusedProgramOfHosts(t *testing.T) { eachVariant(t, testRefusedProgramOfHosts) }

func testRefusedProgramOfHosts(t *testing.T, variant Variant) {
	n := newNode(t, variant)
	p := packets.NewTables()
	good := tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Deny, unix.IPPROTO_TCP, 80)}}
	bad := tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"odd"}}}}}
	p.Sets.Set("odd", tables.SetType(99)) // the kernel has no set of such a type
	p.Programs.Set("p", good)
	host := func(name, program string) {
		p.HostEndpoints.Set(name, tables.HostEndpoint{PreDNAT: []tables.Tier{packets.Tier(tables.Pass, program)}, LocalDefault: tables.Allow})
	}
	host("eth0", "p")
	n.WantItems(n.TryApply(p), "Set odd")
	verdicts := func(denied, others, beside bool) {
		t.Helper()
		n.Verify(
			packets.TCP(packets.IPv4, packets.Outside, packets.HostSide, 80, denied), packets.TCP(packets.IPv4, packets.Outside, packets.HostSide, 81, others),
			packets.TCP(packets.IPv4, packets.Beside, packets.OtherSide, 81, beside),
		)
	}
	verdicts(false, true, true)
	p.Programs.Set("p", bad)
	p.Programs.Set("q", bad)
	host("eth1", "q")
	n.Driver.Resync()
	n.WantItems(n.TryApply(p), "PolicyProgram p", "PolicyProgram q", "Set odd")
	verdicts(false, true, false)
	n.Reopen()
	n.WantItems(n.TryApply(p), "PolicyProgram p", "PolicyProgram q", "Set odd")
	verdicts(false, true, false)
	p.Programs.Set("p", good)
	p.Programs.Set("q", good)
	n.WantItems(n.TryApply(p), "Set odd")
	verdicts(false, true, true)
	p.Sets.Delete("odd")
	n.Apply(p)
	n.SameAsFresh(p)
}
