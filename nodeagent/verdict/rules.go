package verdict

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// IANA numbers of protocols.
const (
	protocolICMP   = 1
	protocolIPIP   = 4
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
	protocolSCTP   = 132
)

func hasPorts(protocol uint8) bool {
	return protocol == protocolTCP || protocol == protocolUDP || protocol == protocolSCTP
}

// decide has the tiers decide on a packet, in order. It is false when none of them does.
func (e *Evaluator) decide(tiers []tables.Tier, d Direction, p *Packet) (Decision, bool) {
	for i := range tiers {
		t := &tiers[i]
		decision, decided := e.decideTier(t, d, p)
		if decided {
			decision.Tier = t.Name
			return decision, true
		}
	}
	return Decision{}, false
}

func (e *Evaluator) decideTier(t *tables.Tier, d Direction, p *Packet) (Decision, bool) {
	for _, name := range t.Programs {
		program, ok := e.policy.Programs.Get(name)
		if !ok {
			return Decision{Program: name, Rule: -1, Reason: NotKnown}, true
		}
		rules := program.Ingress
		if d == Egress {
			rules = program.Egress
		}
		for i := range rules {
			r := &rules[i]
			if r.Action == tables.Log || !e.matches(r, p) {
				continue
			}
			if r.Action == tables.Pass {
				return Decision{}, false
			}
			return Decision{Program: name, Rule: i, Reason: ByRule, Allowed: r.Action == tables.Allow}, true
		}
	}
	if t.Default == tables.Pass {
		return Decision{}, false
	}
	return Decision{Rule: -1, Reason: ByTier}, true
}

func (e *Evaluator) matches(r *tables.Rule, p *Packet) bool {
	version, icmp := uint8(4), uint8(protocolICMP)
	if p.Source.Is6() {
		version, icmp = 6, protocolICMPv6
	}
	if r.IPVersion != 0 && r.IPVersion != version ||
		r.Protocol != 0 && r.Protocol != p.Protocol ||
		r.NotProtocol != 0 && r.NotProtocol == p.Protocol {
		return false
	}
	// A rule that says anything of types is about ICMP of the packet's family.
	if (r.ICMP != nil || r.NotICMP != nil) && p.Protocol != icmp {
		return false
	}
	if r.ICMP != nil && !isICMP(r.ICMP, p) || r.NotICMP != nil && isICMP(r.NotICMP, p) {
		return false
	}
	return e.matchesEnd(&r.Source, p.Source, p.Protocol, p.SourcePort) &&
		e.matchesEnd(&r.Destination, p.Destination, p.Protocol, p.DestinationPort)
}

func isICMP(m *tables.ICMP, p *Packet) bool {
	return m.Type == int16(p.ICMPType) && (m.Code < 0 || m.Code == int16(p.ICMPCode))
}

func (e *Evaluator) matchesEnd(m *tables.Entity, addr netip.Addr, protocol uint8, port uint16) bool {
	if len(m.Nets) > 0 && !inNets(m.Nets, addr) || inNets(m.NotNets, addr) {
		return false
	}
	for _, set := range m.Sets {
		if !e.inSet(set, addr) {
			return false
		}
	}
	for _, set := range m.NotSets {
		if e.inSet(set, addr) {
			return false
		}
	}
	is, not := len(m.Ports)+len(m.PortSets) > 0, len(m.NotPorts)+len(m.NotPortSets) > 0
	if !is && !not {
		return true
	}
	// A rule that says anything of ports is about protocols that have them.
	return hasPorts(protocol) &&
		(!is || e.isPort(m.Ports, m.PortSets, addr, protocol, port)) &&
		!e.isPort(m.NotPorts, m.NotPortSets, addr, protocol, port)
}

func (e *Evaluator) isPort(ranges []tables.PortRange, sets []string, addr netip.Addr, protocol uint8, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r tables.PortRange) bool { return r.First <= port && port <= r.Last }) ||
		slices.ContainsFunc(sets, func(set string) bool { return e.hasPort(set, addr, protocol, port) })
}

func inNets(nets []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// isFailsafe tells whether a packet towards a failsafe port, or one that answers from there, passes: near is the end that has
// the port, far the other.
func isFailsafe(ports []tables.FailsafePort, protocol uint8, port uint16, far netip.Addr) bool {
	return slices.ContainsFunc(ports, func(f tables.FailsafePort) bool {
		return f.Protocol == protocol && f.Port == port && (!f.Net.IsValid() || f.Net.Contains(far))
	})
}
