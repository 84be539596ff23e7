package nftables

import (
	"net/netip"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

// A node without IPv6 endpoints has no IPv6 sets and rules, and lets no IPv6 packet to or from a workload; with the
// first IPv6 endpoint all are there.
func TestIPv6Begins(t *testing.T) {
	const (
		ipv4, ipv6                     = packets.IPv4, packets.IPv6
		clientPod, serverPod, otherPod = packets.ClientPod, packets.ServerPod, packets.OtherPod
		outside, hostSide              = packets.Outside, packets.HostSide
	)
	n := packets.NewNode(t, subject())
	p := packets.NewTables()
	packets.AddSets(p)
	v4 := func(pod string) tables.Endpoint {
		return tables.Endpoint{Addresses: []netip.Addr{packets.Address(pod, ipv4)}}
	}
	for _, pod := range packets.Pods() {
		p.Endpoints.Set(packets.InterfaceOf(pod), v4(pod))
	}
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Source: tables.Entity{Sets: []string{packets.ClientSet}}}, {Action: tables.Allow}}})
	server := v4(serverPod)
	server.Ingress = []tables.Tier{packets.Tier(tables.Deny, "in")}
	p.Endpoints.Set(packets.InterfaceOf(serverPod), server)
	n.Apply(p)
	n.Verify(
		packets.TCP(ipv4, clientPod, serverPod, 80, false), packets.TCP(ipv4, otherPod, serverPod, 80, true), packets.TCP(ipv4, outside, serverPod, 80, true),
		packets.TCP(ipv6, clientPod, otherPod, 80, false), packets.TCP(ipv6, outside, otherPod, 80, false), packets.TCP(ipv6, outside, serverPod, 80, false),
		packets.TCP(ipv6, otherPod, hostSide, 80, false), packets.TCP(ipv6, otherPod, outside, 80, false),
	)
	n.SameAsFresh(p)
	p.Members.Set(packets.AddressMember(packets.ClientSet, packets.Address(otherPod, ipv6)), struct{}{})
	n.Apply(p)
	server.Addresses = append(server.Addresses, packets.Address(serverPod, ipv6))
	p.Endpoints.Set(packets.InterfaceOf(serverPod), server)
	p.Endpoints.Set(packets.InterfaceOf(clientPod), packets.Unrestricted(clientPod))
	p.Endpoints.Set(packets.InterfaceOf(otherPod), packets.Unrestricted(otherPod))
	n.Apply(p)
	n.Verify(
		packets.TCP(ipv4, clientPod, serverPod, 80, false), packets.TCP(ipv4, otherPod, serverPod, 80, true),
		packets.TCP(ipv6, clientPod, serverPod, 80, false), packets.TCP(ipv6, otherPod, serverPod, 80, false), packets.TCP(ipv6, outside, serverPod, 80, true),
	)
	n.SameAsFresh(p)
}
