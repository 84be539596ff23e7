package verdict

import (
	"fmt"
	"net/netip"
)

// Packet is the first packet of a connection, as the node sees it.
type Packet struct {
	// In and Out are the names of the interfaces by which it comes in and goes out. Empty: the node itself sends or receives it.
	In, Out string
	// Protocol is the IANA number.
	Protocol uint8
	// Source and Destination as policy sees them: after the address of a service was translated, before the source is.
	Source, Destination netip.Addr
	// Ports, of protocols that have them.
	SourcePort, DestinationPort uint16
	// ICMPType and ICMPCode, of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	// Original is the destination that the packet had before it was translated. Not valid: it was not.
	Original netip.AddrPort
	// OriginalOut is the interface by which the node itself would send the packet there: policies before connection tracking
	// see that one. Empty: Out, or not known.
	OriginalOut string
}

// untranslated is the packet as it came in by its interface.
func (p Packet) untranslated() Packet {
	if p.Original.IsValid() {
		p.Destination, p.DestinationPort = p.Original.Addr(), p.Original.Port()
	}
	return p
}

// Verdict on a packet.
type Verdict struct {
	// Allowed: the packet passes.
	Allowed bool
	// Unknown: it is dropped only because something that decides on it is not known yet.
	Unknown bool
	// Decisions that were made on it, in order. If it is dropped, the last one is why.
	Decisions []Decision
}

// Last is the decision that the packet's fate hung on at the end; one without a Reason when none was necessary.
func (v Verdict) Last() Decision {
	if len(v.Decisions) == 0 {
		return Decision{Allowed: true}
	}
	return v.Decisions[len(v.Decisions)-1]
}

// Decision is what was decided on a packet at one point of its way.
type Decision struct {
	Point     Point
	Direction Direction
	// Interface whose policy was asked; tables.AllInterfaces when it was that of all interfaces of the node.
	Interface string
	Allowed   bool
	Reason    Reason
	// Tier, Program and Rule tell what decided, as far as the reason has them. Rule is the rule's place in its program, from
	// 0, and -1 when it was no rule.
	Tier, Program string
	Rule          int
}

// String tells the decision in a line.
func (d Decision) String() string {
	verb := "denied"
	if d.Allowed {
		verb = "allowed"
	}
	where := fmt.Sprintf("%s by %s (%s of %s): %s", verb, d.Point, d.Direction, d.Interface, d.Reason)
	switch {
	case d.Rule >= 0:
		return fmt.Sprintf("%s %d of %s in tier %s", where, d.Rule, d.Program, d.Tier)
	case d.Program != "":
		return where + " " + d.Program
	case d.Tier != "":
		return where + " " + d.Tier
	}
	return where
}

// Point of a packet's way where something is decided.
type Point string

// The points, in the order of a packet's way.
const (
	// Sender: a workload sends from its own addresses only, and nothing encapsulated.
	Sender Point = "sender"
	// Untracked policies of a host endpoint.
	Untracked Point = "untracked"
	// PreDNAT policies of a host endpoint.
	PreDNAT Point = "preDNAT"
	// Forward policies of a host endpoint.
	Forward Point = "forward"
	// Workload: a workload's policies.
	Workload Point = "workload"
	// ToHost is the setting for what a workload sends to its own node.
	ToHost Point = "endpoint to host"
	// Local policies of a host endpoint.
	Local Point = "local"
)

// Direction of traffic as seen from an endpoint.
type Direction uint8

// The directions.
const (
	Ingress Direction = iota
	Egress
)

// String names the direction.
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Reason of a decision.
type Reason string

// The reasons.
const (
	// ByRule: Tier, Program and Rule say which.
	ByRule Reason = "rule"
	// ByTier: the default action of Tier.
	ByTier Reason = "default action of tier"
	// ByDefault: no tier decided, and the endpoint's own default did.
	ByDefault Reason = "default of the endpoint"
	// ByFailsafe: a port that stays open.
	ByFailsafe Reason = "failsafe port"
	// ByDiscovery: neighbour discovery always passes.
	ByDiscovery Reason = "neighbour discovery"
	// BySetting: a setting of the node.
	BySetting Reason = "setting"
	// ByAddress: the source address is not the workload's.
	ByAddress Reason = "address that is not the workload's"
	// ByTunnel: encapsulated packets pass between nodes and from nowhere else.
	ByTunnel Reason = "packet of a tunnel"
	// ByEncapsulation: workloads may not send encapsulated packets.
	ByEncapsulation Reason = "encapsulated packet"
	// FromNode: a node reaches its own workloads.
	FromNode Reason = "from the node to its own workload"
	// NotKnown: the endpoint, its policies or Program are not known.
	NotKnown Reason = "not known yet"
)
