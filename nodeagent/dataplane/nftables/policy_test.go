package nftables

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

func rule(action tables.Action, protocol uint8, port ...uint16) tables.Rule {
	return tables.Rule{Action: action, Protocol: protocol, Destination: tables.Entity{Ports: ports(port...)}}
}

func tier(fallback tables.Action, programs ...string) tables.Tier {
	return tables.Tier{Name: "t", Programs: programs, Default: fallback}
}

// TestTiers: ingress to the server through lists of tiers over some fixed programs.
func TestTiers(t *testing.T) {
	programs := map[string]tables.Program{
		"allow-80":      {Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}},
		"deny-80":       {Ingress: []tables.Rule{rule(tables.Deny, protoTCP, 80)}},
		"pass-80":       {Ingress: []tables.Rule{rule(tables.Pass, protoTCP, 80)}},
		"allow-81":      {Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 81)}},
		"pass-80-or-82": {Ingress: []tables.Rule{rule(tables.Pass, protoTCP, 80), rule(tables.Allow, protoTCP, 81), rule(tables.Pass, protoTCP, 82), {Action: tables.Deny}}},
		"log-all":       {Ingress: []tables.Rule{{Action: tables.Log}}},
		"no-rules":      {},
		"egress-only":   {Egress: []tables.Rule{{Action: tables.Deny}}},
	}
	for name, tc := range map[string]struct {
		tiers   []tables.Tier
		arrives [3]bool // TCP 80, 81, 82
	}{
		"no tiers":                        {nil, [3]bool{true, true, true}},
		"allow, then deny":                {[]tables.Tier{tier(tables.Deny, "allow-80")}, [3]bool{true, false, false}},
		"allow, then pass":                {[]tables.Tier{tier(tables.Pass, "allow-80")}, [3]bool{true, true, true}},
		"deny, then pass":                 {[]tables.Tier{tier(tables.Pass, "deny-80")}, [3]bool{false, true, true}},
		"order of programs":               {[]tables.Tier{tier(tables.Deny, "deny-80", "allow-80", "allow-81")}, [3]bool{false, true, false}},
		"pass leaves the tier":            {[]tables.Tier{tier(tables.Deny, "pass-80", "deny-80", "allow-81")}, [3]bool{true, true, false}},
		"pass to the next tier":           {[]tables.Tier{tier(tables.Deny, "pass-80", "allow-81"), tier(tables.Deny, "deny-80")}, [3]bool{false, true, false}},
		"pass twice":                      {[]tables.Tier{tier(tables.Deny, "pass-80-or-82"), tier(tables.Deny, "pass-80-or-82"), tier(tables.Deny, "allow-80")}, [3]bool{true, true, false}},
		"pass in the last tier":           {[]tables.Tier{tier(tables.Deny, "pass-80-or-82")}, [3]bool{true, true, true}},
		"pass after a program":            {[]tables.Tier{tier(tables.Deny, "allow-81", "pass-80")}, [3]bool{true, true, false}},
		"default pass to the next tier":   {[]tables.Tier{tier(tables.Pass, "allow-80"), tier(tables.Deny, "allow-81")}, [3]bool{true, true, false}},
		"an earlier tier allows":          {[]tables.Tier{tier(tables.Deny, "allow-80"), tier(tables.Deny, "deny-80")}, [3]bool{true, false, false}},
		"an earlier tier denies":          {[]tables.Tier{tier(tables.Pass, "deny-80"), tier(tables.Deny, "allow-80", "allow-81")}, [3]bool{false, true, false}},
		"a program without rules":         {[]tables.Tier{tier(tables.Deny, "no-rules")}, [3]bool{false, false, false}},
		"a program of the other way":      {[]tables.Tier{tier(tables.Deny, "egress-only", "allow-80")}, [3]bool{true, false, false}},
		"a tier without programs":         {[]tables.Tier{tier(tables.Deny)}, [3]bool{false, false, false}},
		"a tier without programs, passes": {[]tables.Tier{tier(tables.Pass)}, [3]bool{true, true, true}},
		"log goes on":                     {[]tables.Tier{tier(tables.Deny, "log-all", "allow-80")}, [3]bool{true, false, false}},
		"many tiers": {[]tables.Tier{
			tier(tables.Pass, "no-rules"), tier(tables.Pass, "log-all"), tier(tables.Pass, "allow-81"), tier(tables.Pass, "pass-80"), tier(tables.Pass), tier(tables.Deny, "allow-80"),
		}, [3]bool{true, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := newTables()
			for name, program := range programs {
				p.Programs.Set(name, program)
			}
			e := unrestricted(serverPod)
			e.Ingress = tc.tiers
			p.Endpoints.Set(interfaceOf(serverPod), e)
			n.apply(p)
			n.verify(both(func(f family) []probe {
				return []probe{
					tcp(f, clientPod, serverPod, 80, tc.arrives[0]), tcp(f, clientPod, serverPod, 81, tc.arrives[1]), tcp(f, clientPod, serverPod, 82, tc.arrives[2]),
					tcp(f, serverPod, clientPod, 80, true), // no policy for egress, nor for the client
				}
			})...)
		})
	}
}

// A packet must pass the sender's egress policy and the receiver's ingress policy.
func TestEgressThenIngress(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{rule(tables.Allow, protoTCP, 80, 81)}})
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 81, 82)}})
	client, server := unrestricted(clientPod), unrestricted(serverPod)
	client.Egress = []tables.Tier{tier(tables.Deny, "out")}
	server.Ingress = []tables.Tier{tier(tables.Deny, "in")}
	p.Endpoints.Set(interfaceOf(clientPod), client)
	p.Endpoints.Set(interfaceOf(serverPod), server)
	n.apply(p)
	n.verify(both(func(f family) []probe {
		return []probe{
			tcp(f, clientPod, serverPod, 80, false), tcp(f, clientPod, serverPod, 81, true), tcp(f, clientPod, serverPod, 82, false),
			tcp(f, clientPod, outside, 80, true), tcp(f, clientPod, outside, 82, false), tcp(f, outside, serverPod, 82, true), tcp(f, outside, serverPod, 80, false),
		}
	})...)
}

// Real connections: answers come back, by policy of the first packet alone, and survive a policy that would not have
// let them begin.
func TestConnections(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}})
	server := unrestricted(serverPod)
	server.Ingress, server.Egress = []tables.Tier{tier(tables.Deny, "in")}, []tables.Tier{tier(tables.Deny)}
	p.Endpoints.Set(interfaceOf(serverPod), server)
	n.apply(p)
	for fam := range families {
		to := netip.AddrPortFrom(addresses[serverPod][fam], 80)
		echo := n.peers[serverPod].Echo(to)
		connection := n.peers[clientPod].Connect(to)
		connection.Exchange("one")
		p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{rule(tables.Deny, protoTCP, 80)}})
		n.apply(p)
		connection.Exchange("two")
		n.verify(tcp(fam, clientPod, serverPod, 80, false))
		p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}})
		n.apply(p)
		connection.Close()
		echo.Close()
	}
}

func TestUnknownEndpoints(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Endpoints.Delete(interfaceOf(otherPod)) // never was one
	unknown := unrestricted(serverPod)
	unknown.Unknown = true
	p.Endpoints.Set(interfaceOf(serverPod), unknown)
	n.apply(p)
	n.verify(both(func(f family) []probe {
		return []probe{
			tcp(f, clientPod, serverPod, 80, false), tcp(f, clientPod, otherPod, 80, false),
			tcp(f, serverPod, clientPod, 80, false), tcp(f, otherPod, clientPod, 80, false),
			tcp(f, outside, serverPod, 80, false), tcp(f, outside, otherPod, 80, false), tcp(f, outside, clientPod, 80, true),
			tcp(f, serverPod, hostSide, 80, false), tcp(f, otherPod, hostSide, 80, false),
			tcp(f, hostSide, serverPod, 80, true), // a node reaches its own pods
		}
	})...)
	p.Endpoints.Set(interfaceOf(serverPod), unrestricted(serverPod))
	p.Endpoints.Set(interfaceOf(otherPod), unrestricted(otherPod))
	p.Endpoints.Delete(interfaceOf(clientPod))
	n.apply(p)
	n.verify(both(func(f family) []probe {
		return []probe{tcp(f, serverPod, otherPod, 80, true), tcp(f, clientPod, serverPod, 80, false), tcp(f, serverPod, clientPod, 80, false)}
	})...)
}

func TestSpoofing(t *testing.T) {
	n := newNode(t)
	p := newTables()
	extra := netip.MustParseAddr("10.48.0.77")
	e := unrestricted(otherPod)
	e.Addresses = append(e.Addresses, extra)
	p.Endpoints.Set(interfaceOf(otherPod), e)
	n.apply(p)
	as := func(fam family, from string, address netip.Addr, arrives bool) probe {
		k := udp(fam, from, serverPod, 53, arrives)
		k.packet.From = address
		return k
	}
	n.verify(
		as(ipv4, clientPod, addresses[otherPod][ipv4], false), as(ipv6, clientPod, addresses[otherPod][ipv6], false),
		as(ipv4, clientPod, netip.MustParseAddr("203.0.113.1"), false), as(ipv6, clientPod, netip.MustParseAddr("2001:db8:1::1"), false),
		as(ipv4, clientPod, addresses[hostSide][ipv4], false), as(ipv4, clientPod, extra, false), as(ipv4, otherPod, extra, true),
		as(ipv4, clientPod, addresses[clientPod][ipv4], true), as(ipv6, clientPod, addresses[clientPod][ipv6], true),
		as(ipv4, outside, netip.MustParseAddr("203.0.113.1"), true), // a machine beyond the node is none of ours
	)
}

func TestEncapsulation(t *testing.T) {
	ipip := func(arrives bool) probe {
		return between(ipv4, clientPod, outside, netns.Packet{Protocol: unix.IPPROTO_IPIP}, arrives)
	}
	for name, tc := range map[string]struct {
		settings tables.Settings
		probes   []probe
	}{
		"default port": {tables.Settings{}, []probe{
			ipip(false), udp(ipv4, clientPod, outside, 4789, false), udp(ipv6, clientPod, outside, 4789, false), udp(ipv4, clientPod, outside, 8472, true), udp(ipv4, outside, clientPod, 4789, true),
		}},
		"another port":  {tables.Settings{VXLANPort: 8472}, []probe{ipip(false), udp(ipv4, clientPod, outside, 4789, true), udp(ipv6, clientPod, outside, 8472, false)}},
		"VXLAN allowed": {tables.Settings{AllowVXLAN: true}, []probe{ipip(false), udp(ipv4, clientPod, outside, 4789, true)}},
		"IPIP allowed":  {tables.Settings{AllowIPIP: true}, []probe{ipip(true), udp(ipv4, clientPod, outside, 4789, false)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := newTables()
			n.apply(p)
			p.Settings, p.SettingsDirty = tc.settings, true
			n.apply(p)
			n.verify(tc.probes...)
		})
	}
}

func TestEndpointToHost(t *testing.T) {
	for name, tc := range map[string]struct {
		action  tables.HostAction
		arrives bool
	}{"Drop": {tables.HostDrop, false}, "Accept": {tables.HostAccept, true}, "Return": {tables.HostReturn, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := newTables()
			p.Settings.EndpointToHost, p.SettingsDirty = tc.action, true
			p.Programs.Set("no-81", tables.Program{Egress: []tables.Rule{rule(tables.Deny, protoTCP, 81), {Action: tables.Allow}}})
			e := unrestricted(clientPod)
			e.Egress = []tables.Tier{tier(tables.Deny, "no-81")}
			p.Endpoints.Set(interfaceOf(clientPod), e)
			n.apply(p)
			n.verify(both(func(f family) []probe {
				return []probe{
					tcp(f, clientPod, hostSide, 80, tc.arrives), tcp(f, serverPod, hostSide, 81, tc.arrives), ping(f, serverPod, hostSide, 0, tc.arrives),
					tcp(f, clientPod, hostSide, 81, false), // egress policy comes first
					tcp(f, hostSide, clientPod, 80, true), tcp(f, outside, hostSide, 80, true), tcp(f, clientPod, serverPod, 80, true),
				}
			})...)
			// Answers to the node's own connections come back whatever the action is.
			to := netip.AddrPortFrom(addresses[serverPod][ipv4], 80)
			echo := n.peers[serverPod].Echo(to)
			connection := n.Connect(to)
			connection.Exchange("probe")
			connection.Close()
			echo.Close()
		})
	}
}

// A workload finds its router by neighbour discovery whatever its policy is; nothing else gets by.
func TestNeighbourDiscovery(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Settings.EndpointToHost = tables.HostDrop
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{rule(tables.Allow, protoTCP, 80)}})
	e := unrestricted(clientPod)
	e.Egress = []tables.Tier{tier(tables.Deny, "out")}
	p.Endpoints.Set(interfaceOf(clientPod), e)
	n.apply(p)
	// The router is the node's end of the veth by its link-local address, which the pod has to resolve; the node has to
	// resolve the pod's address to answer.
	router := n.LinkLocal(interfaceOf(clientPod))
	n.peers[clientPod].Route(netip.PrefixFrom(addresses[serverPod][ipv6], 128).String(), router.String(), "eth0")
	n.verify(
		tcp(ipv6, clientPod, serverPod, 80, true), tcp(ipv6, clientPod, serverPod, 81, false),
		tcp(ipv6, clientPod, hostSide, 80, false), ping(ipv6, clientPod, hostSide, 0, false),
	)
	n.verify(tcp(ipv6, serverPod, clientPod, 80, true))
}

// Masquerading: traffic from a pool with NATOutgoing to outside all pools takes the node's address.
func TestMasquerade(t *testing.T) {
	n := newNode(t)
	p := newTables()
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{NATOutgoing: true})
	n.apply(p)
	n.source(clientPod, outside, ipv4, hostSide)
	n.source(clientPod, outside, ipv6, hostSide)
	n.source(clientPod, serverPod, ipv4, clientPod)
	n.source(clientPod, serverPod, ipv6, clientPod)
	n.source(outside, clientPod, ipv4, outside)
	n.source(clientPod, hostSide, ipv4, clientPod)

	p.Pools.Set(netip.MustParsePrefix("192.0.2.0/24"), tables.Pool{}) // outside is inside now
	n.apply(p)
	n.source(clientPod, outside, ipv4, clientPod)
	n.source(clientPod, outside, ipv6, hostSide)

	p.Pools.Delete(netip.MustParsePrefix("192.0.2.0/24"))
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{})
	n.apply(p)
	n.source(clientPod, outside, ipv4, hostSide)
	n.source(clientPod, outside, ipv6, clientPod)
}

// source checks which address a connection has at its other end.
func (n *node) source(from, to string, fam family, want string) {
	n.t.Helper()
	n.port++
	at := netip.AddrPortFrom(addresses[to][fam], n.port)
	echo := n.peers[to].Echo(at)
	defer echo.Close()
	connection := n.peers[from].Connect(at)
	defer connection.Close()
	connection.Exchange("who am I")
	if got := echo.Peer(); got != addresses[want][fam] {
		n.t.Errorf("%s -> %s: the source is %v, want %s's %v", from, to, got, want, addresses[want][fam])
	}
}

// A node without IPv6 endpoints has no IPv6 sets and rules, and lets no IPv6 packet to or from a workload; with the
// first IPv6 endpoint all are there.
func TestIPv6Begins(t *testing.T) {
	n := newNode(t)
	p := newTables()
	addSets(p)
	v4 := func(pod string) tables.Endpoint {
		return tables.Endpoint{Addresses: []netip.Addr{addresses[pod][ipv4]}}
	}
	for _, pod := range pods() {
		p.Endpoints.Set(interfaceOf(pod), v4(pod))
	}
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Source: tables.Entity{Sets: []string{clientSet}}}, {Action: tables.Allow}}})
	server := v4(serverPod)
	server.Ingress = []tables.Tier{tier(tables.Deny, "in")}
	p.Endpoints.Set(interfaceOf(serverPod), server)
	n.apply(p)
	n.verify(
		tcp(ipv4, clientPod, serverPod, 80, false), tcp(ipv4, otherPod, serverPod, 80, true), tcp(ipv4, outside, serverPod, 80, true),
		tcp(ipv6, clientPod, otherPod, 80, false), tcp(ipv6, outside, otherPod, 80, false), tcp(ipv6, outside, serverPod, 80, false),
		tcp(ipv6, otherPod, hostSide, 80, false), tcp(ipv6, otherPod, outside, 80, false),
	)
	n.sameAsFresh(p)
	p.Members.Set(addressMember(clientSet, addresses[otherPod][ipv6]), struct{}{})
	n.apply(p)
	server.Addresses = append(server.Addresses, addresses[serverPod][ipv6])
	p.Endpoints.Set(interfaceOf(serverPod), server)
	p.Endpoints.Set(interfaceOf(clientPod), unrestricted(clientPod))
	p.Endpoints.Set(interfaceOf(otherPod), unrestricted(otherPod))
	n.apply(p)
	n.verify(
		tcp(ipv4, clientPod, serverPod, 80, false), tcp(ipv4, otherPod, serverPod, 80, true),
		tcp(ipv6, clientPod, serverPod, 80, false), tcp(ipv6, otherPod, serverPod, 80, false), tcp(ipv6, outside, serverPod, 80, true),
	)
	n.sameAsFresh(p)
}
