package packets

import (
	"net/netip"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// floatingAddresses: who sends to a workload's floating address reaches the workload, from wherever, and policy sees the workload.
func floatingAddresses(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	n.Sysctl("ipv4/conf/all/send_redirects", "0")
	floating := [Families]netip.Addr{netip.MustParseAddr("10.50.0.7"), netip.MustParseAddr("fd00:50::7")}
	p := NewTables()
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/15"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/32"), tables.Pool{NATOutgoing: true})
	for fam := range Families {
		for _, machine := range []string{Outside} {
			n.Peer(machine).Route(single(floating[fam]), Address(HostSide, fam).String(), "eth0")
		}
		echo := n.Peer(ServerPod).Echo(At(ServerPod, fam, 80))
		defer echo.Close()
		other := n.Peer(OtherPod).Echo(At(OtherPod, fam, 80))
		defer other.Close()
		// The node itself needs a way to it before its destination is translated.
		n.Route(single(floating[fam]), "", InterfaceOf(ServerPod))
	}
	reach := func(want bool, who ...string) {
		t.Helper()
		for _, from := range who {
			for fam := range Families {
				if got := n.Peer(from).CanConnect(netip.AddrPortFrom(floating[fam], 80)); got != want {
					t.Errorf("%s -> %v: connected: %v, want %v", from, floating[fam], got, want)
				}
			}
		}
	}
	to := func(fam Family, from string, port uint16, server string, arrives bool) Probe {
		k := TCP(fam, from, server, port, arrives)
		k.packet.To = floating[fam]
		return k
	}
	everybody := []string{ClientPod, Outside, HostSide, ServerPod}

	n.Apply(p)
	reach(false, everybody...)
	for fam := range Families {
		p.Floating.Set(floating[fam], Address(ServerPod, fam))
	}
	n.Apply(p)
	reach(true, everybody...)
	n.SameAsFresh(p)

	// A pod that reaches itself by its floating address sees itself under that address; others are seen as they are.
	for fam := range Families {
		echo := n.Peer(ServerPod).Echo(At(ServerPod, fam, 81))
		for from, want := range map[string]netip.Addr{ServerPod: floating[fam], Outside: Address(Outside, fam), ClientPod: Address(ClientPod, fam)} {
			n.Peer(from).Connect(netip.AddrPortFrom(floating[fam], 81)).Close()
			if got := echo.Peer(); got != want {
				t.Errorf("%s -> floating address: the source is %v, want %v", from, got, want)
			}
		}
		echo.Close()
	}

	// Policy names the pod's own address, and its own ports.
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{
		Action: tables.Allow, Protocol: protoTCP,
		Destination: tables.Entity{Nets: Prefixes("10.48.0.2/32", "fd00:48::2/128"), Ports: Ports(80)},
	}}})
	server := Unrestricted(ServerPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, "in")}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	p.Programs.Set("out", tables.Program{Egress: []tables.Rule{{
		Action: tables.Deny, Destination: tables.Entity{Nets: Prefixes("10.48.0.2/32", "fd00:48::2/128")},
	}, {Action: tables.Allow}}})
	other := Unrestricted(OtherPod)
	other.Egress = []tables.Tier{Tier(tables.Deny, "out")}
	p.Endpoints.Set(InterfaceOf(OtherPod), other)
	n.Apply(p)
	n.Verify(Both(func(f Family) []Probe {
		return []Probe{
			to(f, Outside, 80, ServerPod, true), to(f, Outside, 81, ServerPod, false), to(f, ClientPod, 80, ServerPod, true), to(f, ClientPod, 81, ServerPod, false),
			to(f, OtherPod, 80, ServerPod, false),
		}
	})...)
	p.Programs.Delete("in")
	p.Programs.Delete("out")
	p.Endpoints.Set(InterfaceOf(ServerPod), Unrestricted(ServerPod))
	p.Endpoints.Set(InterfaceOf(OtherPod), Unrestricted(OtherPod))
	n.Apply(p)

	// A connection stays with its pod when the address goes to another; new ones go there.
	for fam := range Families {
		echo := n.Peer(ServerPod).Echo(At(ServerPod, fam, 82))
		connection := n.Peer(Outside).Connect(netip.AddrPortFrom(floating[fam], 82))
		connection.Exchange("before")
		p.Floating.Set(floating[fam], Address(OtherPod, fam))
		n.Apply(p)
		connection.Exchange("after")
		connection.Close()
		echo.Close()
		n.Verify(to(fam, Outside, 80, OtherPod, true), to(fam, Outside, 80, ServerPod, false))
	}

	// A restart changes nothing, and leaves nothing behind that is not wanted.
	n.untouched("the restart", func() {
		n.Reopen()
		n.Apply(p)
	})
	n.SameAsFresh(p)
	n.Reopen()
	for fam := range Families {
		p.Floating.Delete(floating[fam])
	}
	n.Apply(p)
	reach(false, Outside)
	n.SameAsFresh(p)
}

// single is an address as a CIDR.
func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
