package packets

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// tunnelPackets: packets of tunnels pass between nodes and from nowhere else, and host endpoints have no say in them.
func tunnelPackets(t *testing.T, subject Subject) {
	ipip := func(from, to string, arrives bool) Probe {
		return Between(IPv4, from, to, netns.Packet{Protocol: unix.IPPROTO_IPIP}, arrives)
	}
	nodes := func(p *tables.Policy, who ...string) {
		for _, name := range who {
			for fam := range Families {
				a := Address(name, fam)
				p.Nodes.Set(netip.PrefixFrom(a, a.BitLen()), struct{}{})
			}
		}
	}
	denied := tables.HostEndpoint{LocalDefault: tables.Deny, PreDNAT: pass("deny-all"), Untracked: inAndOut(pass("deny-all"))}
	for name, hosts := range map[string]map[string]tables.HostEndpoint{
		"without host endpoints":                   nil,
		"host endpoints that deny by default":      {tables.AllInterfaces: shut()},
		"host endpoints that deny before anything": {tables.AllInterfaces: denied, "eth0": denied},
		"host endpoints of which nothing is known": {"eth0": {Unknown: true}, "eth1": {Unknown: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := hostTables(hosts)
			open := len(hosts) == 0
			n.Apply(p)
			n.Verify(Both(func(f Family) []Probe {
				return []Probe{UDP(f, Outside, HostSide, 4789, open), UDP(f, Beside, OtherSide, 4789, open), UDP(f, HostSide, Outside, 4789, open)}
			})...)
			n.Verify(ipip(Outside, HostSide, open))

			before := map[Family]int{IPv4: n.trackedTo(IPv4, 4789), IPv6: n.trackedTo(IPv6, 4789)}
			p.Settings.Tunnels, p.SettingsDirty = tables.TunnelKinds(), true
			nodes(p, HostSide, Outside)
			n.Apply(p)
			between := func(f Family) []Probe {
				return []Probe{
					UDP(f, Outside, HostSide, 4789, true), UDP(f, HostSide, Outside, 4789, true),
					UDP(f, Beside, OtherSide, 4789, false), UDP(f, Beside, HostSide, 4789, false), UDP(f, Outside, OtherSide, 4789, false),
					UDP(f, Outside, HostSide, 4790, open), UDP(f, HostSide, Outside, 4790, open), TCP(f, Outside, HostSide, 4789, open),
				}
			}
			n.Verify(Both(between)...)
			n.Verify(ipip(Outside, HostSide, true), ipip(HostSide, Outside, true), ipip(Beside, OtherSide, false), ipip(Beside, HostSide, false))
			n.SameAsFresh(p)
			if got := n.trackedTo(IPv4, 4789); got > before[IPv4] {
				n.t.Errorf("%d connections of VXLAN between nodes are tracked, want none", got-before[IPv4])
			}
			if n.trackedTo(IPv6, 4789) <= before[IPv6] {
				n.t.Error("VXLAN over IPv6 is not tracked: errors about it belong to nothing")
			}
			if open && n.trackedTo(IPv4, 4790) == 0 {
				n.t.Error("what is none of a tunnel is not tracked")
			}

			// Another port, and nodes that come and go.
			p.Settings.VXLANPort, p.SettingsDirty = 8472, true
			nodes(p, Beside, OtherSide)
			for fam := range Families {
				a := Address(Outside, fam)
				p.Nodes.Delete(netip.PrefixFrom(a, a.BitLen()))
			}
			p.Nodes.Set(netip.MustParsePrefix("192.0.2.8/29"), struct{}{}) // Outside's, among others
			n.Apply(p)
			n.Verify(
				UDP(IPv4, Outside, HostSide, 8472, true), UDP(IPv6, Outside, HostSide, 8472, false), UDP(IPv4, Beside, OtherSide, 8472, true), UDP(IPv6, OtherSide, Beside, 8472, true),
				UDP(IPv4, Outside, HostSide, 4789, open), ipip(Outside, HostSide, true), ipip(Beside, HostSide, true),
			)
			n.SameAsFresh(p)

			// Pods send none, and none to the node where they may send to others.
			n.Verify(UDP(IPv4, ClientPod, HostSide, 8472, false), ipip(ClientPod, HostSide, false))
			p.Settings.AllowVXLAN, p.Settings.AllowIPIP, p.SettingsDirty = true, true, true
			n.Apply(p)
			n.Verify(UDP(IPv4, ClientPod, HostSide, 8472, false), ipip(ClientPod, HostSide, false), UDP(IPv4, ClientPod, ServerPod, 8472, true), ipip(ClientPod, ServerPod, true))

			p.Settings.Tunnels, p.SettingsDirty = nil, true
			n.Apply(p)
			n.Verify(UDP(IPv4, Beside, OtherSide, 8472, open))
		})
	}
}

// trackedTo is how many connections to a UDP port the node tracks.
func (n *Node) trackedTo(fam Family, port uint16) (count int) {
	n.t.Helper()
	family := netlink.InetFamily(unix.AF_INET)
	if fam == IPv6 {
		family = unix.AF_INET6
	}
	n.Must("listing connections", func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range flows {
			if f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.DstPort == port {
				count++
			}
		}
		return err
	})
	return count
}
