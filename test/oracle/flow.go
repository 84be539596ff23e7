package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// Packet is the first packet of a connection.
type Packet struct {
	Source, Destination         netip.Addr
	Protocol                    int // IANA number
	SourcePort, DestinationPort int
	ICMPType, ICMPCode          int
}

// IANA numbers of protocols.
const (
	ICMP    = 1
	IPIP    = 4
	TCP     = 6
	UDP     = 17
	GRE     = 47
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// String is short, for people to read.
func (p Packet) String() string {
	switch p.Protocol {
	case TCP, UDP, SCTP, UDPLite:
		name := map[int]string{TCP: "TCP", UDP: "UDP", SCTP: "SCTP", UDPLite: "UDPLite"}[p.Protocol]
		return fmt.Sprintf("%s %s -> %s", name, netip.AddrPortFrom(p.Source, uint16(p.SourcePort)), netip.AddrPortFrom(p.Destination, uint16(p.DestinationPort)))
	case ICMP, ICMPv6:
		return fmt.Sprintf("ICMP type %d code %d %s -> %s", p.ICMPType, p.ICMPCode, p.Source, p.Destination)
	}
	return fmt.Sprintf("protocol %d %s -> %s", p.Protocol, p.Source, p.Destination)
}

// version is that of IP.
func (p Packet) version() int {
	if p.Source.Is4() {
		return 4
	}
	return 6
}

// Flow is a packet and where it starts.
type Flow struct {
	From Place
	Packet
}

// String is short, for people to read.
func (f Flow) String() string { return f.From.String() + ": " + f.Packet.String() }

// Verdict is what becomes of a packet.
type Verdict struct {
	// Arrived: the packet came to its end.
	Arrived bool
	// Place where it arrived, or was dropped.
	Place Place
	// Packet as it arrived.
	Packet Packet
	// Steps are what was decided on the way.
	Steps []string
}

// Equal tells whether two verdicts are the same, however they came about.
func (v Verdict) Equal(o Verdict) bool {
	return v.Arrived == o.Arrived && (!v.Arrived || v.Place == o.Place && v.Packet == o.Packet)
}

// String tells what became of the packet and why.
func (v Verdict) String() string {
	what := "dropped at " + v.Place.String()
	if v.Arrived {
		what = "arrived at " + v.Place.String() + " as " + v.Packet.String()
	}
	return what + "\n  " + strings.Join(v.Steps, "\n  ")
}
