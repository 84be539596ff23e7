package packets

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// Probe is a packet and whether it must arrive.
type Probe struct {
	from, to string
	packet   netns.Packet
	arrives  bool
}

func (p Probe) String() string {
	verdict := "drop"
	if p.arrives {
		verdict = "pass"
	}
	k := p.packet
	return fmt.Sprintf("%s -> %s protocol %d %v:%d -> %v:%d type %d code %d: %s", p.from, p.to, k.Protocol, k.From, k.SourcePort, k.To, k.Port, k.Type, k.Code, verdict)
}

// Verify sends all probes and compares verdicts.
func (n *Node) Verify(probes ...Probe) {
	n.t.Helper()
	type pair struct{ from, to string }
	var order []pair
	byPair := map[pair][]Probe{}
	for _, p := range probes {
		k := pair{p.from, p.to}
		if byPair[k] == nil {
			order = append(order, k)
		}
		byPair[k] = append(byPair[k], p)
	}
	for _, k := range order {
		var packets []netns.Packet
		expected := 0
		for i, p := range byPair[k] {
			n.port++
			if p.packet.SourcePort == 0 {
				p.packet.SourcePort = n.port // a flow of its own
			}
			byPair[k][i] = p
			packets = append(packets, p.packet)
			if p.arrives {
				expected++
			}
		}
		for i, arrived := range n.prober.Send(n.peers[k.from], n.peers[k.to], packets, expected) {
			if p := byPair[k][i]; arrived != p.arrives {
				n.t.Errorf("%v, but arrived: %v", p, arrived)
			}
		}
	}
}

// Words by which probes are read as sentences: from, to, what, whether it arrives.

// Between makes a packet from one peer to another, of one family.
func Between(fam Family, from, to string, k netns.Packet, arrives bool) Probe {
	k.From, k.To = Address(from, fam), Address(to, fam)
	return Probe{from: from, to: to, packet: k, arrives: arrives}
}

// TCP is the first packet of a connection.
func TCP(fam Family, from, to string, port uint16, arrives bool) Probe {
	return Between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_TCP, Port: port}, arrives)
}

// UDP is a datagram.
func UDP(fam Family, from, to string, port uint16, arrives bool) Probe {
	return Between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_UDP, Port: port}, arrives)
}

// SCTP is the first packet of an association.
func SCTP(fam Family, from, to string, port uint16, arrives bool) Probe {
	return Between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_SCTP, Port: port}, arrives)
}

// Ping is an ICMP echo request with any code.
func Ping(fam Family, from, to string, code uint8, arrives bool) Probe {
	return ICMP(fam, from, to, [Families]uint8{8, 128}[fam], code, arrives)
}

// ICMP is a message of the family's ICMP.
func ICMP(fam Family, from, to string, typ, code uint8, arrives bool) Probe {
	return Between(fam, from, to, netns.Packet{Protocol: fam.icmp(), Type: typ, Code: code}, arrives)
}

// icmp is the family's ICMP.
func (f Family) icmp() uint8 { return [Families]uint8{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}[f] }

// Both makes probes of both families.
func Both(f func(Family) []Probe) []Probe { return append(f(IPv4), f(IPv6)...) }

// At is somebody's address and a port.
func At(who string, fam Family, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(Address(who, fam), port)
}

// NodePort is a TCP packet to a port of somebody, which arrives elsewhere.
func NodePort(fam Family, from, at string, port uint16, to string, arrives bool) Probe {
	p := TCP(fam, from, at, port, arrives)
	p.to = to
	return p
}

// packet is one of a protocol with ports.
func packet(protocol uint8, port uint16) netns.Packet {
	return netns.Packet{Protocol: protocol, Port: port}
}

// Service is a TCP packet to the service's address, which arrives at the endpoint.
func Service(fam Family, from string, port uint16, to string, arrives bool) Probe {
	p := TCP(fam, from, to, port, arrives)
	p.packet.To = serviceAddress(fam)
	return p
}
