package oracle

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
)

func (r *renderedJudge) decide(rules []v1alpha1.Rule, p Packet) v1alpha1.Action {
	for i := range rules {
		if rules[i].Action != v1alpha1.Log && r.matches(&rules[i], p) {
			return rules[i].Action
		}
	}
	return ""
}

func (r *renderedJudge) matches(rule *v1alpha1.Rule, p Packet) bool {
	switch {
	case rule.IPVersion != 0 && int(rule.IPVersion) != p.version():
		return false
	case rule.Protocol != nil && int(*rule.Protocol) != p.Protocol:
		return false
	case rule.NotProtocol != nil && int(*rule.NotProtocol) == p.Protocol:
		return false
	case rule.ICMP != nil && !renderedICMP(rule.ICMP, p):
		return false
	case rule.NotICMP != nil && renderedICMP(rule.NotICMP, p):
		return false
	}
	return r.matchesEntity(&rule.Source, p.Source, p.SourcePort, p.Protocol) &&
		r.matchesEntity(&rule.Destination, p.Destination, p.DestinationPort, p.Protocol)
}

func renderedICMP(m *v1alpha1.ICMPMatch, p Packet) bool {
	return (m.Type == nil || int(*m.Type) == p.ICMPType) && (m.Code == nil || int(*m.Code) == p.ICMPCode)
}

func (r *renderedJudge) matchesEntity(m *v1alpha1.EntityMatch, addr netip.Addr, port, protocol int) bool {
	for _, id := range m.Sets {
		if !r.inSet(id, addr) {
			return false
		}
	}
	for _, id := range m.NotSets {
		if r.inSet(id, addr) {
			return false
		}
	}
	if len(m.Nets) > 0 && !inAny(m.Nets, addr) || inAny(m.NotNets, addr) {
		return false
	}
	if len(m.Ports)+len(m.NamedPorts)+len(m.PortSets) > 0 && !inRanges(m.Ports, port) &&
		!r.hasPort(m.NamedPorts, addr, port, protocol) && !r.inPortSets(m.PortSets, addr, port, protocol) {
		return false
	}
	return !inRanges(m.NotPorts, port) && !r.hasPort(m.NotNamedPorts, addr, port, protocol)
}

func inRanges(ranges []v1alpha1.PortRange, port int) bool {
	return slices.ContainsFunc(ranges, func(p v1alpha1.PortRange) bool { return int(p.First) <= port && port <= int(p.Last) })
}

func (r *renderedJudge) hasPort(names []string, addr netip.Addr, port, protocol int) bool {
	return len(names) > 0 && slices.ContainsFunc(r.remote(addr), func(e v1alpha1.RemoteEndpoint) bool {
		return slices.ContainsFunc(e.Ports, func(p v1alpha1.NamedPort) bool {
			return slices.Contains(names, p.Name) && int(p.Port) == port && int(p.Protocol) == protocol
		})
	})
}

// remote are the endpoints that have an address, as all nodes know them.
func (r *renderedJudge) remote(addr netip.Addr) []v1alpha1.RemoteEndpoint {
	var out []v1alpha1.RemoteEndpoint
	for _, o := range r.Endpoints {
		for _, e := range o.Spec.Endpoints {
			if slices.Contains(e.Addresses, addr.String()) {
				out = append(out, e)
			}
		}
	}
	return out
}

func (r *renderedJudge) inPortSets(ids []string, addr netip.Addr, port, protocol int) bool {
	return slices.ContainsFunc(ids, func(id string) bool {
		s := r.sets[id]
		return s != nil && slices.ContainsFunc(s.Members, func(m v1alpha1.PortMembers) bool {
			return int(m.Protocol) == protocol && int(m.Port) == port && slices.Contains(m.Addresses, addr.String())
		})
	})
}

// inSet tells whether an address is in a set.
func (r *renderedJudge) inSet(id string, addr netip.Addr) bool {
	key := membership{id, addr}
	is, known := r.members[key]
	if !known {
		s := r.sets[id]
		is = s != nil && (inAny(s.CIDRs, addr) || slices.ContainsFunc(r.remote(addr), func(e v1alpha1.RemoteEndpoint) bool {
			return slices.ContainsFunc(e.Identities, func(identity string) bool { return slices.Contains(s.Identities, identity) })
		}))
		r.members[key] = is
	}
	return is
}
