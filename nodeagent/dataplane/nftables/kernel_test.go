package nftables

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// between makes a packet from one peer to another, of one family.
func between(fam family, from, to string, k netns.Packet, arrives bool) probe {
	k.From, k.To = addresses[from][fam], addresses[to][fam]
	return probe{from: from, to: to, packet: k, arrives: arrives}
}

func tcp(fam family, from, to string, port uint16, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_TCP, Port: port}, arrives)
}

func udp(fam family, from, to string, port uint16, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_UDP, Port: port}, arrives)
}

func TestFirstPackets(t *testing.T) {
	n := newNode(t)
	for fam := range families {
		n.verify(tcp(fam, clientPod, serverPod, 80, true))
	}
	p := newTables()
	n.apply(p)
	for fam := range families {
		n.verify(tcp(fam, clientPod, serverPod, 80, true), udp(fam, clientPod, serverPod, 53, true), tcp(fam, outside, serverPod, 80, true))
	}
	e := unrestricted(serverPod)
	e.Ingress = []tables.Tier{{Name: "default", Programs: []string{"np.yao.web"}, Default: tables.Deny}}
	p.Endpoints.Set(interfaceOf(serverPod), e)
	p.Programs.Set("np.yao.web", tables.Program{Ingress: []tables.Rule{
		{Action: tables.Allow, Protocol: 6, Destination: tables.Entity{Ports: []tables.PortRange{{First: 80, Last: 80}}}},
	}})
	n.apply(p)
	for fam := range families {
		n.verify(
			tcp(fam, clientPod, serverPod, 80, true), tcp(fam, clientPod, serverPod, 81, false),
			udp(fam, clientPod, serverPod, 80, false), tcp(fam, clientPod, otherPod, 81, true),
		)
	}
}
