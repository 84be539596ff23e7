package packets

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// ack is a TCP packet from the middle of a connection.
func ack(fam Family, from, to string, arrives bool) Probe {
	const flag = 0x10
	return Between(fam, from, to, netns.Packet{Protocol: protoTCP, Port: 80, Flags: flag}, arrives)
}

// midStream: a TCP packet of no known connection does not begin one at a workload, whoever sends it. Traffic of no workload
// is none of our business: it may be that its other half takes another way.
func midStream(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	n.Apply(NewTables())
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{
			ack(f, ClientPod, ServerPod, false), ack(f, ClientPod, Outside, false), ack(f, Outside, ClientPod, false), ack(f, ClientPod, HostSide, false),
			ack(f, Outside, HostSide, true), ack(f, Outside, Beside, true), ack(f, HostSide, Outside, true), ack(f, HostSide, ClientPod, true),
			TCP(f, ClientPod, ServerPod, 80, true), TCP(f, Outside, ClientPod, 80, true),
		}
	})...)
}

// endedConnections: a connection whose entry is removed when policy comes to deny it is dead, whichever side speaks first.
func endedConnections(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 80), {Action: tables.Allow}}})
	for fam := range Families {
		to := At(ServerPod, fam, 80)
		echo := n.Peer(ServerPod).Echo(to)
		p.Endpoints.Set(InterfaceOf(ServerPod), Unrestricted(ServerPod))
		n.Apply(p)
		connection := n.Peer(ClientPod).Connect(to)
		connection.Exchange("one")
		server := Unrestricted(ServerPod)
		server.Ingress = []tables.Tier{Tier(tables.Deny, "in")}
		p.Endpoints.Set(InterfaceOf(ServerPod), server)
		n.Apply(p)
		connection.Exchange("two")
		n.forgetConnections()
		n.Verify(Between(fam, ServerPod, ClientPod, netns.Packet{Protocol: protoTCP, SourcePort: 80, Port: connection.Port(), Flags: 0x18}, false))
		connection.Stalls("three")
		connection.Close()
		echo.Close()
	}
}

// sourcePrefixes: a workload may send from them beside its addresses, and no other may.
func sourcePrefixes(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	set := func(pod string, list ...string) {
		e := Unrestricted(pod)
		e.SourcePrefixes = Prefixes(list...)
		p.Endpoints.Set(InterfaceOf(pod), e)
		n.Apply(p)
	}
	as := func(fam Family, from, address string, arrives bool) Probe {
		k := UDP(fam, from, ServerPod, 53, arrives)
		k.packet.From = netip.MustParseAddr(address)
		return k
	}
	expect := func(allowed bool) {
		t.Helper()
		n.Verify(
			as(IPv4, ClientPod, "172.16.5.1", allowed), as(IPv4, ClientPod, "172.16.5.255", allowed), as(IPv4, ClientPod, "172.16.6.1", false), as(IPv4, ClientPod, "198.51.100.7", allowed),
			as(IPv6, ClientPod, "fd00:5::77", allowed), as(IPv6, ClientPod, "fd00:6::1", false), as(IPv4, OtherPod, "172.16.5.1", false), as(IPv6, OtherPod, "fd00:5::77", false),
			UDP(IPv4, ClientPod, ServerPod, 53, true), UDP(IPv6, ClientPod, ServerPod, 53, true), UDP(IPv4, OtherPod, ServerPod, 53, true),
		)
		n.SameAsFresh(p)
	}
	n.Apply(p)
	expect(false)
	set(ClientPod, "172.16.5.0/24", "198.51.100.7/32", "fd00:5::/64", "172.16.5.128/25")
	expect(true)
	n.Reopen()
	n.Apply(p)
	expect(true)
	set(OtherPod, "10.99.0.0/16")
	expect(true)
	n.Verify(as(IPv4, OtherPod, "10.99.1.1", true), as(IPv4, ClientPod, "10.99.1.1", false))
	set(OtherPod)
	set(ClientPod)
	expect(false)
	// Encapsulated packets are dropped all the same.
	set(ClientPod, "172.16.5.0/24")
	ipip := as(IPv4, ClientPod, "172.16.5.1", false)
	ipip.packet.Protocol = unix.IPPROTO_IPIP
	vxlan := as(IPv4, ClientPod, "172.16.5.1", false)
	vxlan.packet.Port = 4789
	n.Verify(ipip, vxlan)
}

// encapsulated: what is inside does not help a packet through.
func encapsulated(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	n.Apply(p)
	inner := netns.Packet{From: Address(OtherPod, IPv4), To: Address(ServerPod, IPv4), Protocol: protoUDP, SourcePort: 1, Port: 53}
	probes := func(arrives bool) []Probe {
		return []Probe{
			Between(IPv4, ClientPod, ServerPod, netns.Packet{Protocol: unix.IPPROTO_IPIP, Inner: &inner}, arrives),
			Between(IPv4, ClientPod, Outside, netns.Packet{Protocol: unix.IPPROTO_IPIP, Inner: &inner}, arrives),
			Between(IPv4, ClientPod, HostSide, netns.Packet{Protocol: unix.IPPROTO_IPIP, Inner: &inner}, arrives),
			UDP(IPv4, ClientPod, HostSide, 4789, arrives), UDP(IPv6, ClientPod, HostSide, 4789, arrives),
			Between(IPv4, Outside, ClientPod, netns.Packet{Protocol: unix.IPPROTO_IPIP, Inner: &inner}, true),
		}
	}
	n.Verify(probes(false)...)
	p.Settings.AllowIPIP, p.Settings.AllowVXLAN, p.SettingsDirty = true, true, true
	n.Apply(p)
	n.Verify(probes(true)...)
}

// hairpin: a pod reaches itself through its own service, of which it is the endpoint.
func hairpin(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	n.routeServices()
	n.Sysctl("ipv4/conf/all/send_redirects", "0")
	p := NewTables()
	p.Programs.Set("from-client", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: Nets("10.48.0.1/32", "fd00:48::1/128")}}})
	p.Programs.Set("not-80", tables.Program{Egress: []tables.Rule{Rule(tables.Deny, protoTCP, 80), {Action: tables.Allow}}})
	connects := func(want bool) {
		t.Helper()
		for fam := range Families {
			to := netip.AddrPortFrom(serviceAddress(fam), 81)
			if want {
				_ = n.Peer(ClientPod).Connect(to).Close()
			} else if n.Peer(ClientPod).CanConnect(to) {
				t.Errorf("IPv%d: the pod reaches itself", 4+2*fam)
			}
		}
	}
	for fam := range Families {
		to := At(ClientPod, fam, 80)
		n.service("tcp", netip.AddrPortFrom(serviceAddress(fam), 81), to, true)
		echo := n.Peer(ClientPod).Echo(to)
		defer echo.Close()
	}
	n.Apply(p)
	connects(true)
	client := Unrestricted(ClientPod)
	client.Ingress = []tables.Tier{Tier(tables.Deny, "from-client")}
	p.Endpoints.Set(InterfaceOf(ClientPod), client)
	n.Apply(p)
	connects(true) // policy sees the pod, not the node's address that it takes afterwards
	client.Egress = []tables.Tier{Tier(tables.Deny, "not-80")}
	p.Endpoints.Set(InterfaceOf(ClientPod), client)
	n.Apply(p)
	connects(false) // and the endpoint's port
}

// fragments: a datagram in fragments is judged by its ports, as a whole.
func fragments(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoUDP, 53)}})
	server := Unrestricted(ServerPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, "in")}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	n.Apply(p)
	const size, datagrams = 4000, 5
	for fam := range Families {
		for port, want := range map[uint16]int64{54: 0, 53: datagrams} {
			to := At(ServerPod, fam, port)
			counter := n.Peer(ServerPod).CountUDP(to)
			for range datagrams {
				n.Peer(ClientPod).SendUDP(to, size)
			}
			if got := counter.From(Address(ClientPod, fam)); got != want {
				t.Errorf("IPv%d: %d of %d datagrams arrived at port %d, want %d", 4+2*fam, got, datagrams, port, want)
			}
		}
	}
}

// icmpErrors: an ICMP error about a flow that is allowed comes through where nothing else would; others don't.
func icmpErrors(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	for _, pod := range []string{ClientPod, ServerPod} { // the server answers to nobody, nobody answers to the client
		e := Unrestricted(pod)
		if pod == ServerPod {
			e.Egress = deny()
		} else {
			e.Ingress = deny()
		}
		p.Endpoints.Set(InterfaceOf(pod), e)
	}
	n.Apply(p)
	for fam := range Families {
		unreachable := func(from string, about netns.Packet, arrives bool) Probe {
			typ := [Families]uint8{3, 1}[fam]
			code := [Families]uint8{3, 4}[fam]
			return Between(fam, from, ClientPod, netns.Packet{Protocol: fam.icmp(), Type: typ, Code: code, Inner: &about}, arrives)
		}
		flow := func(to string, port uint16) netns.Packet {
			return netns.Packet{From: Address(ClientPod, fam), To: Address(to, fam), Protocol: protoUDP, SourcePort: port, Port: 53}
		}
		n.Verify(Between(fam, ClientPod, ServerPod, flow(ServerPod, 1001), true), Between(fam, ClientPod, Outside, flow(Outside, 1002), true))
		n.Verify(unreachable(ServerPod, flow(ServerPod, 1001), true), unreachable(ServerPod, flow(ServerPod, 1009), false))
		n.Verify(unreachable(Outside, flow(Outside, 1002), true), unreachable(Outside, flow(Outside, 1009), false))
		n.Verify(unreachable(Beside, flow(Outside, 1002), true)) // a router on the way
		n.Verify(UDP(fam, ServerPod, ClientPod, 1001, false), Ping(fam, ServerPod, ClientPod, 0, false))
	}
}

// associations: SCTP is judged by its ports like the others, and through services.
func associations(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := NewTables()
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{Rule(tables.Allow, protoSCTP, 3868), Rule(tables.Deny, protoSCTP, 3869), Rule(tables.Allow, protoUDP, 3869)}})
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{Rule(tables.Deny, protoSCTP, 3868), {Action: tables.Allow}}})
	server, other := Unrestricted(ServerPod), Unrestricted(OtherPod)
	server.Ingress = deny("in")
	other.Egress = deny("out")
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	p.Endpoints.Set(InterfaceOf(OtherPod), other)
	n.Apply(p)
	n.routeServices()
	for fam := range Families {
		for port := range uint16(2) {
			n.service("sctp", netip.AddrPortFrom(serviceAddress(fam), 80+port), At(ServerPod, fam, 3868+port), false)
		}
	}
	service := func(f Family, port uint16, arrives bool) Probe {
		p := SCTP(f, ClientPod, ServerPod, port, arrives)
		p.packet.To = serviceAddress(f)
		return p
	}
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{
			service(f, 80, true), service(f, 81, false),
			SCTP(f, ClientPod, ServerPod, 3868, true), SCTP(f, ClientPod, ServerPod, 3869, false), SCTP(f, ClientPod, ServerPod, 3870, false), UDP(f, ClientPod, ServerPod, 3868, false),
			SCTP(f, OtherPod, ServerPod, 3868, false), SCTP(f, OtherPod, ClientPod, 3868, false), SCTP(f, OtherPod, ClientPod, 3869, true), SCTP(f, Outside, ServerPod, 3868, true), SCTP(f, HostSide, ServerPod, 3870, true),
		}
	})...)
}
