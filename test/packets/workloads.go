package packets

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// tiers: ingress to the server through lists of tiers over some fixed programs.
func tiers(t *testing.T, subject Subject) {
	programs := map[string]tables.Program{
		"allow-80":      {Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 80)}},
		"deny-80":       {Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 80)}},
		"pass-80":       {Ingress: []tables.Rule{Rule(tables.Pass, protoTCP, 80)}},
		"allow-81":      {Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 81)}},
		"pass-80-or-82": {Ingress: []tables.Rule{Rule(tables.Pass, protoTCP, 80), Rule(tables.Allow, protoTCP, 81), Rule(tables.Pass, protoTCP, 82), {Action: tables.Deny}}},
		"log-all":       {Ingress: []tables.Rule{{Action: tables.Log}}},
		"no-rules":      {},
		"egress-only":   {Egress: []tables.Rule{{Action: tables.Deny}}},
	}
	for name, tc := range map[string]struct {
		tiers   []tables.Tier
		arrives [3]bool // TCP 80, 81, 82
	}{
		"no tiers":                        {nil, [3]bool{true, true, true}},
		"allow, then deny":                {[]tables.Tier{Tier(tables.Deny, "allow-80")}, [3]bool{true, false, false}},
		"allow, then pass":                {[]tables.Tier{Tier(tables.Pass, "allow-80")}, [3]bool{true, true, true}},
		"deny, then pass":                 {[]tables.Tier{Tier(tables.Pass, "deny-80")}, [3]bool{false, true, true}},
		"order of programs":               {[]tables.Tier{Tier(tables.Deny, "deny-80", "allow-80", "allow-81")}, [3]bool{false, true, false}},
		"pass leaves the tier":            {[]tables.Tier{Tier(tables.Deny, "pass-80", "deny-80", "allow-81")}, [3]bool{true, true, false}},
		"pass to the next tier":           {[]tables.Tier{Tier(tables.Deny, "pass-80", "allow-81"), Tier(tables.Deny, "deny-80")}, [3]bool{false, true, false}},
		"pass twice":                      {[]tables.Tier{Tier(tables.Deny, "pass-80-or-82"), Tier(tables.Deny, "pass-80-or-82"), Tier(tables.Deny, "allow-80")}, [3]bool{true, true, false}},
		"pass in the last tier":           {[]tables.Tier{Tier(tables.Deny, "pass-80-or-82")}, [3]bool{true, true, true}},
		"pass after a program":            {[]tables.Tier{Tier(tables.Deny, "allow-81", "pass-80")}, [3]bool{true, true, false}},
		"default pass to the next tier":   {[]tables.Tier{Tier(tables.Pass, "allow-80"), Tier(tables.Deny, "allow-81")}, [3]bool{true, true, false}},
		"an earlier tier allows":          {[]tables.Tier{Tier(tables.Deny, "allow-80"), Tier(tables.Deny, "deny-80")}, [3]bool{true, false, false}},
		"an earlier tier denies":          {[]tables.Tier{Tier(tables.Pass, "deny-80"), Tier(tables.Deny, "allow-80", "allow-81")}, [3]bool{false, true, false}},
		"a program without rules":         {[]tables.Tier{Tier(tables.Deny, "no-rules")}, [3]bool{false, false, false}},
		"a program of the other way":      {[]tables.Tier{Tier(tables.Deny, "egress-only", "allow-80")}, [3]bool{true, false, false}},
		"a tier without programs":         {[]tables.Tier{Tier(tables.Deny)}, [3]bool{false, false, false}},
		"a tier without programs, passes": {[]tables.Tier{Tier(tables.Pass)}, [3]bool{true, true, true}},
		"log goes on":                     {[]tables.Tier{Tier(tables.Deny, "log-all", "allow-80")}, [3]bool{true, false, false}},
		"many tiers": {[]tables.Tier{
			Tier(tables.Pass, "no-rules"), Tier(tables.Pass, "log-all"), Tier(tables.Pass, "allow-81"), Tier(tables.Pass, "pass-80"), Tier(tables.Pass), Tier(tables.Deny, "allow-80"),
		}, [3]bool{true, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := NewTables()
			for name, program := range programs {
				p.Programs.Set(name, program)
			}
			e := Unrestricted(ServerPod)
			e.Ingress = tc.tiers
			p.Endpoints.Set(InterfaceOf(ServerPod), e)
			n.Apply(p)
			n.Verify(Both(func(f Family) []Probe {
				return []Probe{
					TCP(f, ClientPod, ServerPod, 80, tc.arrives[0]), TCP(f, ClientPod, ServerPod, 81, tc.arrives[1]), TCP(f, ClientPod, ServerPod, 82, tc.arrives[2]),
					TCP(f, ServerPod, ClientPod, 80, true), // no policy for egress, nor for the client
				}
			})...)
		})
	}
}

// A packet must pass the sender's egress policy and the receiver's ingress policy.
func egressThenIngress(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{Rule(tables.Allow, protoTCP, 80, 81)}})
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 81, 82)}})
	client, server := Unrestricted(ClientPod), Unrestricted(ServerPod)
	client.Egress = []tables.Tier{Tier(tables.Deny, "out")}
	server.Ingress = []tables.Tier{Tier(tables.Deny, "in")}
	p.Endpoints.Set(InterfaceOf(ClientPod), client)
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	n.Apply(p)
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{
			TCP(f, ClientPod, ServerPod, 80, false), TCP(f, ClientPod, ServerPod, 81, true), TCP(f, ClientPod, ServerPod, 82, false),
			TCP(f, ClientPod, Outside, 80, true), TCP(f, ClientPod, Outside, 82, false), TCP(f, Outside, ServerPod, 82, true), TCP(f, Outside, ServerPod, 80, false),
		}
	})...)
}

// Real connections: answers come back, by policy of the first packet alone, and survive a policy that would not have
// let them begin.
func connections(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 80)}})
	server := Unrestricted(ServerPod)
	server.Ingress, server.Egress = []tables.Tier{Tier(tables.Deny, "in")}, []tables.Tier{Tier(tables.Deny)}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	n.Apply(p)
	for fam := range Families {
		to := netip.AddrPortFrom(Address(ServerPod, fam), 80)
		echo := n.Peer(ServerPod).Echo(to)
		connection := n.Peer(ClientPod).Connect(to)
		connection.Exchange("one")
		p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 80)}})
		n.Apply(p)
		connection.Exchange("two")
		n.Verify(TCP(fam, ClientPod, ServerPod, 80, false))
		p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoTCP, 80)}})
		n.Apply(p)
		connection.Close()
		echo.Close()
	}
}

func unknownEndpoints(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Endpoints.Delete(InterfaceOf(OtherPod)) // never was one
	unknown := Unrestricted(ServerPod)
	unknown.Unknown = true
	p.Endpoints.Set(InterfaceOf(ServerPod), unknown)
	n.Apply(p)
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{
			TCP(f, ClientPod, ServerPod, 80, false), TCP(f, ClientPod, OtherPod, 80, false),
			TCP(f, ServerPod, ClientPod, 80, false), TCP(f, OtherPod, ClientPod, 80, false),
			TCP(f, Outside, ServerPod, 80, false), TCP(f, Outside, OtherPod, 80, false), TCP(f, Outside, ClientPod, 80, true),
			TCP(f, ServerPod, HostSide, 80, false), TCP(f, OtherPod, HostSide, 80, false),
			TCP(f, HostSide, ServerPod, 80, true), // a node reaches its own pods
		}
	})...)
	p.Endpoints.Set(InterfaceOf(ServerPod), Unrestricted(ServerPod))
	p.Endpoints.Set(InterfaceOf(OtherPod), Unrestricted(OtherPod))
	p.Endpoints.Delete(InterfaceOf(ClientPod))
	n.Apply(p)
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{TCP(f, ServerPod, OtherPod, 80, true), TCP(f, ClientPod, ServerPod, 80, false), TCP(f, ServerPod, ClientPod, 80, false)}
	})...)
}

func spoofing(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	extra := netip.MustParseAddr("10.48.0.77")
	e := Unrestricted(OtherPod)
	e.Addresses = append(e.Addresses, extra)
	p.Endpoints.Set(InterfaceOf(OtherPod), e)
	n.Apply(p)
	as := func(fam Family, from string, address netip.Addr, arrives bool) Probe {
		k := UDP(fam, from, ServerPod, 53, arrives)
		k.packet.From = address
		return k
	}
	n.Verify(
		as(IPv4, ClientPod, Address(OtherPod, IPv4), false), as(IPv6, ClientPod, Address(OtherPod, IPv6), false),
		as(IPv4, ClientPod, netip.MustParseAddr("198.51.100.7"), false), as(IPv6, ClientPod, netip.MustParseAddr("2001:db8:1::1"), false),
		as(IPv4, ClientPod, Address(HostSide, IPv4), false), as(IPv4, ClientPod, extra, false), as(IPv4, OtherPod, extra, true),
		as(IPv4, ClientPod, Address(ClientPod, IPv4), true), as(IPv6, ClientPod, Address(ClientPod, IPv6), true),
		as(IPv4, Outside, netip.MustParseAddr("198.51.100.7"), true), // a machine beyond the node is none of ours
	)
}

func encapsulation(t *testing.T, subject Subject) {
	ipip := func(arrives bool) Probe {
		return Between(IPv4, ClientPod, Outside, netns.Packet{Protocol: unix.IPPROTO_IPIP}, arrives)
	}
	for name, tc := range map[string]struct {
		settings tables.Settings
		probes   []Probe
	}{
		"default port": {tables.Settings{}, []Probe{
			ipip(false), UDP(IPv4, ClientPod, Outside, 4789, false), UDP(IPv6, ClientPod, Outside, 4789, false), UDP(IPv4, ClientPod, Outside, 8472, true), UDP(IPv4, Outside, ClientPod, 4789, true),
		}},
		"another port":  {tables.Settings{VXLANPort: 8472}, []Probe{ipip(false), UDP(IPv4, ClientPod, Outside, 4789, true), UDP(IPv6, ClientPod, Outside, 8472, false)}},
		"VXLAN allowed": {tables.Settings{AllowVXLAN: true}, []Probe{ipip(false), UDP(IPv4, ClientPod, Outside, 4789, true)}},
		"IPIP allowed":  {tables.Settings{AllowIPIP: true}, []Probe{ipip(true), UDP(IPv4, ClientPod, Outside, 4789, false)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := NewTables()
			n.Apply(p)
			p.Settings, p.SettingsDirty = tc.settings, true
			n.Apply(p)
			n.Verify(tc.probes...)
		})
	}
}

// Pods reach the ports at which they peer with the node, where their egress policy lets them, whatever else of the node is closed.
func peeringPorts(t *testing.T, subject Subject) {
	for name, action := range map[string]tables.HostAction{"Drop": tables.HostDrop, "Return": tables.HostReturn, "Drop beside host endpoints": tables.HostDrop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := NewTables()
			p.Settings.EndpointToHost, p.SettingsDirty = action, true
			for _, f := range []Family{IPv4, IPv6} {
				own := Address(HostSide, f)
				p.Settings.PeeringPorts = append(p.Settings.PeeringPorts, tables.FailsafePort{Protocol: protoTCP, Port: 80, Net: netip.PrefixFrom(own, own.BitLen())})
			}
			if name == "Drop beside host endpoints" {
				p.HostEndpoints.Set(tables.AllInterfaces, shut())
			}
			p.Programs.Set("none", tables.Program{Egress: []tables.Rule{{Action: tables.Deny}}})
			e := Unrestricted(ClientPod)
			e.Egress = []tables.Tier{Tier(tables.Deny, "none")}
			p.Endpoints.Set(InterfaceOf(ClientPod), e)
			n.Apply(p)
			n.Verify(Both(func(f Family) []Probe {
				return []Probe{
					TCP(f, ServerPod, HostSide, 80, true), TCP(f, ServerPod, HostSide, 81, action == tables.HostReturn), TCP(f, ClientPod, HostSide, 80, false),
				}
			})...)
		})
	}
}

func endpointToHost(t *testing.T, subject Subject) {
	for name, tc := range map[string]struct {
		action  tables.HostAction
		arrives bool
	}{"Drop": {tables.HostDrop, false}, "Accept": {tables.HostAccept, true}, "Return": {tables.HostReturn, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := NewTables()
			p.Settings.EndpointToHost, p.SettingsDirty = tc.action, true
			p.Programs.Set("no-81", tables.Program{Egress: []tables.Rule{Rule(tables.Deny, protoTCP, 81), {Action: tables.Allow}}})
			e := Unrestricted(ClientPod)
			e.Egress = []tables.Tier{Tier(tables.Deny, "no-81")}
			p.Endpoints.Set(InterfaceOf(ClientPod), e)
			n.Apply(p)
			n.Verify(Both(func(f Family) []Probe {
				return []Probe{
					TCP(f, ClientPod, HostSide, 80, tc.arrives), TCP(f, ServerPod, HostSide, 81, tc.arrives), Ping(f, ServerPod, HostSide, 0, tc.arrives),
					TCP(f, ClientPod, HostSide, 81, false), // egress policy comes first
					TCP(f, HostSide, ClientPod, 80, true), TCP(f, Outside, HostSide, 80, true), TCP(f, ClientPod, ServerPod, 80, true),
				}
			})...)
			// Answers to the node's own connections come back whatever the action is.
			to := netip.AddrPortFrom(Address(ServerPod, IPv4), 80)
			echo := n.Peer(ServerPod).Echo(to)
			connection := n.Connect(to)
			connection.Exchange("probe")
			connection.Close()
			echo.Close()
		})
	}
}

// A workload finds its router by neighbour discovery whatever its policy is; nothing else gets by.
func neighbourDiscovery(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Settings.EndpointToHost = tables.HostDrop
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{Rule(tables.Allow, protoTCP, 80)}})
	e := Unrestricted(ClientPod)
	e.Egress = []tables.Tier{Tier(tables.Deny, "out")}
	p.Endpoints.Set(InterfaceOf(ClientPod), e)
	n.Apply(p)
	// The router is the node's end of the veth by its link-local address, which the pod has to resolve; the node has to
	// resolve the pod's address to answer.
	router := n.LinkLocal(InterfaceOf(ClientPod))
	n.Peer(ClientPod).Route(netip.PrefixFrom(Address(ServerPod, IPv6), 128).String(), router.String(), "eth0")
	n.Verify(
		TCP(IPv6, ClientPod, ServerPod, 80, true), TCP(IPv6, ClientPod, ServerPod, 81, false),
		TCP(IPv6, ClientPod, HostSide, 80, false), Ping(IPv6, ClientPod, HostSide, 0, false),
	)
	n.Verify(TCP(IPv6, ServerPod, ClientPod, 80, true))
}

// Masquerading: traffic from a pool with NATOutgoing to outside all pools takes the node's address.
func masquerade(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{NATOutgoing: true})
	n.Apply(p)
	n.source(ClientPod, Outside, IPv4, HostSide)
	n.source(ClientPod, Outside, IPv6, HostSide)
	n.source(ClientPod, ServerPod, IPv4, ClientPod)
	n.source(ClientPod, ServerPod, IPv6, ClientPod)
	n.source(Outside, ClientPod, IPv4, Outside)
	n.source(ClientPod, HostSide, IPv4, ClientPod)

	p.Pools.Set(netip.MustParsePrefix("192.0.2.0/24"), tables.Pool{}) // outside is inside now
	n.Apply(p)
	n.source(ClientPod, Outside, IPv4, ClientPod)
	n.source(ClientPod, Outside, IPv6, HostSide)

	p.Pools.Delete(netip.MustParsePrefix("192.0.2.0/24"))
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{})
	n.Apply(p)
	n.source(ClientPod, Outside, IPv4, HostSide)
	n.source(ClientPod, Outside, IPv6, ClientPod)
}
