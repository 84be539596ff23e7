package oracle_test

import (
	"net/netip"

	"github.com/manul-net/manul/test/oracle"
)

// end is where packets start.
type end struct {
	place oracle.Place
	addr  netip.Addr
}

// flows between all pairs of pods, nodes and machines outside, those over services included. Each pair gets the next few of
// all packets, so that a world sees each packet in many places; turn tells with which they begin.
func flows(w *oracle.World, turn int) []oracle.Flow {
	const most = 5
	var out []oracle.Flow
	for _, v4 := range []bool{true, false} {
		all := allPackets(v4)
		for _, from := range sources(w, v4) {
			for _, to := range destinations(w, v4) {
				if to == from.addr {
					continue
				}
				for _, p := range next(all, &turn, most) {
					p.Source, p.Destination = from.addr, to
					out = append(out, oracle.Flow{From: from.place, Packet: p})
				}
			}
			for _, t := range w.Translations {
				if t.Address.Is4() == v4 {
					out = append(out, oracle.Flow{From: from.place, Packet: oracle.Packet{
						Source: from.addr, Destination: t.Address, Protocol: t.Protocol, SourcePort: 40000, DestinationPort: t.Port,
					}})
				}
			}
		}
	}
	return out
}

func next(all []oracle.Packet, turn *int, n int) []oracle.Packet {
	out := make([]oracle.Packet, 0, n)
	for range n {
		out = append(out, all[*turn%len(all)])
		*turn++
	}
	return out
}

// sources of packets. Those of a node have the address of its first interface, as they do when they go to its pods.
func sources(w *oracle.World, v4 bool) []end {
	var out []end
	for _, pod := range w.Network().Pods {
		for _, a := range pod.Addresses {
			if a.Is4() == v4 {
				out = append(out, end{oracle.Place{Pod: pod.ID}, a})
			}
		}
		out = append(out, end{oracle.Place{Pod: pod.ID}, front(v4)}) // an address that is not its own
	}
	for _, l := range w.Interfaces {
		outside := front(v4)
		if l.Name == "eth1" {
			outside = back(v4)
		} else {
			out = append(out, end{oracle.Place{Node: l.Node}, l.Addresses[map[bool]int{true: 0, false: 1}[v4]]})
		}
		out = append(out, end{oracle.Place{Node: l.Node, Interface: l.Name}, outside})
	}
	return out
}

func destinations(w *oracle.World, v4 bool) []netip.Addr {
	var out []netip.Addr
	for _, pod := range w.Network().Pods {
		out = append(out, pod.Addresses...)
	}
	for _, l := range w.Interfaces {
		out = append(out, l.Addresses...)
	}
	out = append(out, front(v4), back(v4))
	var kept []netip.Addr
	for _, a := range out {
		if a.Is4() == v4 {
			kept = append(kept, a)
		}
	}
	return kept
}

// allPackets of all sorts, in an order in which those of one protocol are not next to each other.
func allPackets(v4 bool) []oracle.Packet {
	var out []oracle.Packet
	icmp, echo := oracle.ICMP, 8
	if !v4 {
		icmp, echo = oracle.ICMPv6, 128
	}
	others := []oracle.Packet{
		{Protocol: icmp, ICMPType: echo},
		{Protocol: oracle.GRE},
		{Protocol: icmp, ICMPType: echo, ICMPCode: 1},
		{Protocol: oracle.UDP, SourcePort: 4789, DestinationPort: 4789},
		{Protocol: icmp, ICMPType: 13},
		{Protocol: oracle.IPIP},
	}
	for i, port := range portsOfInterest() {
		out = append(out, oracle.Packet{Protocol: oracle.TCP, SourcePort: 40000, DestinationPort: port})
		source := 40000
		if i%3 == 0 {
			source = 53
		}
		out = append(out, oracle.Packet{Protocol: oracle.UDP, SourcePort: source, DestinationPort: port})
		if i%2 == 0 {
			out = append(out, oracle.Packet{Protocol: oracle.SCTP, SourcePort: 80, DestinationPort: port})
		} else {
			out = append(out, others[i/2])
		}
	}
	return append(out, others[5])
}
