package changeover_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/dataplane/changeover"
	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// real are the kernel's two dataplanes.
func real(variant iptables.Variant) changeover.Options {
	return changeover.Options{
		NFTables: changeover.Kind{
			Open: func(context.Context) (changeover.Plane, error) {
				return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix})
			},
			Remove: nftables.Remove,
		},
		IPTables: changeover.Kind{
			Open: func(ctx context.Context) (changeover.Plane, error) {
				return iptables.New(ctx, iptables.Options{WorkloadPrefix: packets.WorkloadPrefix, Variant: variant, LookEvery: time.Hour})
			},
			Remove: iptables.Remove,
		},
		Detect:      func(context.Context) tables.Dataplane { return "" },
		DetectEvery: time.Hour,
	}
}

func subject(variant iptables.Variant) packets.Subject {
	return packets.Subject{
		Open: func(testing.TB) (packets.Driver, error) { return changeover.New(real(variant)), nil },
	}
}

func eachVariant(t *testing.T, test func(*testing.T, iptables.Variant)) {
	t.Helper()
	for _, variant := range []iptables.Variant{iptables.NFT, iptables.Legacy} {
		t.Run(string(variant), func(t *testing.T) { test(t, variant) })
	}
}

// use sets the dataplane and applies.
func use(n *packets.Node, p *tables.Policy, dataplane tables.Dataplane) {
	p.Settings.Dataplane, p.SettingsDirty = dataplane, true
	n.Apply(p)
}

// leftOf is what there is of one dataplane.
func leftOf(n *packets.Node, dataplane tables.Dataplane) string {
	if dataplane == tables.NFTables {
		return n.Shell("nft list tables | grep 'inet manul' || true")
	}
	return n.Shell("{ for x in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $x-save 2>/dev/null; done; ipset list -n; } | grep manul || true")
}

// While a node changes between its dataplanes over and over, no packet that policy allows is lost, none that it denies gets
// through, and connections go on; nothing is left of the one that was given up.
func TestChangesUnderTraffic(t *testing.T) { eachVariant(t, testChangesUnderTraffic) }

func testChangesUnderTraffic(t *testing.T, variant iptables.Variant) {
	n := packets.NewNode(t, subject(variant))
	p := packets.ManyThings()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Pass, unix.IPPROTO_UDP, 53), packets.Rule(tables.Allow, unix.IPPROTO_TCP, 80), {Action: tables.Deny}}})
	p.Programs.Set("next", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_UDP, 53)}})
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{packets.Rule(tables.Pass, unix.IPPROTO_UDP), {Action: tables.Allow}}})
	server, client := packets.Unrestricted(packets.ServerPod), packets.Unrestricted(packets.ClientPod)
	server.Ingress = []tables.Tier{packets.Tier(tables.Deny, "in"), packets.Tier(tables.Deny, "next")}
	client.Egress = []tables.Tier{packets.Tier(tables.Pass, "out")}
	p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), server)
	p.Endpoints.Set(packets.InterfaceOf(packets.ClientPod), client)
	use(n, p, tables.NFTables)

	at := netip.AddrPortFrom(packets.Address(packets.ServerPod, packets.IPv6), 80)
	echo := n.Peer(packets.ServerPod).Echo(at)
	connection := n.Peer(packets.ClientPod).Connect(at)
	connection.Exchange("before")
	dataplanes := []tables.Dataplane{tables.IPTables, tables.NFTables}
	i := 0
	n.Flooded(packets.ClientPod, packets.ServerPod, func() {
		use(n, p, dataplanes[i%2])
		i++
		connection.Exchange("meanwhile")
	})
	connection.Close()
	echo.Close()
	for _, dataplane := range dataplanes {
		use(n, p, dataplane)
		rest := tables.NFTables
		if dataplane == rest {
			rest = tables.IPTables
		}
		if left := leftOf(n, rest); left != "" {
			t.Errorf("with %s there is still of %s:\n%s", dataplane, rest, left)
		}
		if leftOf(n, dataplane) == "" {
			t.Errorf("nothing there of %s", dataplane)
		}
		n.Verify(packets.Both(func(f packets.Family) []packets.Probe {
			return []packets.Probe{packets.UDP(f, packets.ClientPod, packets.ServerPod, 53, true), packets.UDP(f, packets.ClientPod, packets.ServerPod, 54, false)}
		})...)
	}
}

// The same holds for what host endpoints allow early: later stages of neither dataplane hold it up.
func TestHostsChangeUnderTraffic(t *testing.T) { eachVariant(t, testHostsChangeUnderTraffic) }

func testHostsChangeUnderTraffic(t *testing.T, variant iptables.Variant) {
	tiers := []tables.Tier{packets.Tier(tables.Pass, "open")}
	shut := tables.Directions{Ingress: []tables.Tier{packets.Tier(tables.Deny, "none")}}
	for name, h := range map[string]tables.HostEndpoint{
		"local":              {Local: tables.Directions{Ingress: tiers}},
		"before translation": {PreDNAT: tiers, Local: shut},
		"untracked":          {Untracked: tables.Directions{Ingress: tiers}, Local: shut},
	} {
		t.Run(name, func(t *testing.T) {
			n := packets.NewNode(t, subject(variant))
			p := packets.NewTables()
			p.Programs.Set("open", tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Allow, unix.IPPROTO_UDP, 53)}})
			p.Programs.Set("none", tables.Program{})
			p.HostEndpoints.Set(tables.AllInterfaces, h)
			use(n, p, tables.NFTables)
			i := 0
			n.Flooded(packets.Outside, packets.HostSide, func() {
				use(n, p, []tables.Dataplane{tables.IPTables, tables.NFTables}[i%2])
				i++
			})
		})
	}
}

// An earlier process used the other dataplane: nothing of it is left after the first Apply, whatever its variant was.
func TestRestartWithTheOtherDataplane(t *testing.T) { eachVariant(t, testRestartWithTheOtherDataplane) }

func testRestartWithTheOtherDataplane(t *testing.T, variant iptables.Variant) {
	n := packets.NewNode(t, subject(variant))
	p := packets.ManyThings()
	for _, step := range []struct{ use, not tables.Dataplane }{
		{tables.IPTables, tables.NFTables}, {tables.NFTables, tables.IPTables}, {tables.IPTables, tables.NFTables},
	} {
		use(n, p, step.use)
		if left := leftOf(n, step.not); left != "" {
			t.Errorf("with %s there is still of %s:\n%s", step.use, step.not, left)
		}
		n.Verify(packets.TCP(packets.IPv4, packets.OtherPod, packets.ServerPod, 80, false))
		n.Reopen()
	}
}
