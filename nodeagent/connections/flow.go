// Package connections knows what may have to happen to connections that exist when policy changes: which of them a change can
// concern, and which packet to judge such a connection by. It is pure; what lists and ends connections is elsewhere.
package connections

import (
	"net/netip"

	"github.com/manul-net/manul/nodeagent/verdict"
)

// Flow is a connection that the kernel tracks.
type Flow struct {
	// Original is the direction of the first packet, as it came; Reply that of the answers, as they come. They differ in more
	// than their direction where addresses are translated.
	Original, Reply Tuple
	// Protocol is the IANA number.
	Protocol uint8
	// ICMPType, ICMPCode and ICMPID of the first packet, of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	ICMPID             uint16
	// ID tells the connection from a later one of the same addresses and ports.
	ID uint32
	// Related: the connection was opened at the bidding of another, whose policy it goes by.
	Related bool
	// PickedUp: the kernel saw it for the first time in its middle, when it began to track connections. Which side began it is
	// not known: Original may be the direction of the answers.
	PickedUp bool
	// Closed: nothing is sent on it any more.
	Closed bool
	// Zoned: it is tracked apart from others, by somebody else's wish.
	Zoned bool
}

// Tuple is one direction of a connection. Ports are 0 where the protocol has none.
type Tuple struct{ Source, Destination netip.AddrPort }

// Reversed is the connection as it would be if the other side had begun it.
func (f *Flow) Reversed() *Flow {
	r := *f
	r.Original, r.Reply = f.Reply, f.Original
	return &r
}

// translated is the destination as policy sees it.
func (f *Flow) translated() netip.AddrPort { return f.Reply.Source }

// canBeJudged is false for connections about which policy has nothing to say, or nothing that is known here.
func (f *Flow) canBeJudged() bool {
	if f.Related || f.Closed || f.Zoned {
		return false
	}
	for _, a := range [...]netip.Addr{f.Original.Source.Addr(), f.translated().Addr()} {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == broadcast() {
			return false
		}
	}
	return true
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// Place is where packets to and from an address are at the node.
type Place struct {
	// Local: the address is one of the node's own.
	Local bool
	// Interface that leads to the address, when it is not.
	Interface string
}

// Locator finds the interfaces of a connection, which the kernel does not keep.
type Locator struct {
	// Workloads are the interfaces of the node's workloads by address.
	Workloads map[netip.Addr]string
	// Own are the node's own addresses.
	Own map[netip.Addr]struct{}
	// Towards finds the place of any other address, by the route towards it. nil: there is no host endpoint, so it does not
	// matter.
	Towards func(netip.Addr) (Place, error)
}

// Elsewhere stands for the interface to an address beyond the node, where it does not matter which one that is.
const Elsewhere = "elsewhere"

func (l *Locator) place(a netip.Addr) (Place, error) {
	if iface, ok := l.Workloads[a]; ok {
		return Place{Interface: iface}, nil
	}
	if _, ok := l.Own[a]; ok || a.IsLoopback() {
		return Place{Local: true}, nil
	}
	if l.Towards == nil {
		return Place{Interface: Elsewhere}, nil
	}
	return l.Towards(a)
}

// Packet is the packet that decides on a connection: its first, if it came now. It is false when no policy of this node
// decides on the connection, or when it can't be known which one does.
func (l *Locator) Packet(f *Flow) (verdict.Packet, bool) {
	if !f.canBeJudged() {
		return verdict.Packet{}, false
	}
	source, destination := f.Original.Source, f.translated()
	from, err := l.place(source.Addr())
	if err != nil {
		return verdict.Packet{}, false
	}
	to, err := l.place(destination.Addr())
	if err != nil || from.Local && to.Local {
		return verdict.Packet{}, false
	}
	far := func(p Place) bool { return p.Local || p.Interface == Elsewhere }
	if far(from) && far(to) {
		return verdict.Packet{}, false
	}
	p := verdict.Packet{
		In: from.Interface, Out: to.Interface, Protocol: f.Protocol,
		Source: source.Addr(), SourcePort: source.Port(), Destination: destination.Addr(), DestinationPort: destination.Port(),
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode,
	}
	if f.Original.Destination != destination {
		p.Original = f.Original.Destination
	}
	return p, true
}
