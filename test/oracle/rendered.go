package oracle

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Rendered is a cluster as its nodes know it.
type Rendered struct {
	States    map[string]*v1alpha1.NodeState
	Endpoints map[string]*v1alpha1.NodeEndpoints
	Programs  map[string]*v1alpha1.PolicyProgram
	Catalogs  map[string]*v1alpha1.SetCatalog
}

// Allowed is as World.Allowed.
func (r *Rendered) Allowed(p Packet) bool {
	for _, ingress := range []bool{false, true} {
		addr := p.Source
		if ingress {
			addr = p.Destination
		}
		for _, e := range r.local(addr) {
			tiers := e.Egress
			if ingress {
				tiers = e.Ingress
			}
			if !r.passes(tiers, p, ingress) {
				return false
			}
		}
	}
	return true
}

// local are the endpoints that have an address, as their own nodes know them.
func (r *Rendered) local(addr netip.Addr) []v1alpha1.Endpoint {
	var out []v1alpha1.Endpoint
	for node, o := range r.Endpoints {
		for _, remote := range o.Spec.Endpoints {
			if !slices.Contains(remote.Addresses, addr.String()) || r.States[node] == nil {
				continue
			}
			for _, e := range r.States[node].Spec.Endpoints {
				if e.ID == remote.ID {
					out = append(out, e)
				}
			}
		}
	}
	return out
}

func (r *Rendered) passes(tiers []v1alpha1.TierPolicies, p Packet, ingress bool) bool {
	for _, tier := range tiers {
		verdict := v1alpha1.Action("")
		for _, name := range tier.Policies {
			program := r.Programs[name]
			if program == nil {
				return false // a node that does not know the program lets nothing pass
			}
			rules := program.Spec.Egress
			if ingress {
				rules = program.Spec.Ingress
			}
			if verdict = r.decide(rules, p); verdict != "" {
				break
			}
		}
		if verdict == "" {
			verdict = tier.DefaultAction
		}
		switch verdict {
		case v1alpha1.Allow:
			return true
		case v1alpha1.Deny:
			return false
		case v1alpha1.Pass, v1alpha1.Log: // on to the next tier
		}
	}
	return true
}

func (r *Rendered) decide(rules []v1alpha1.Rule, p Packet) v1alpha1.Action {
	for i := range rules {
		if rules[i].Action != v1alpha1.Log && r.matches(&rules[i], p) {
			return rules[i].Action
		}
	}
	return ""
}

func (r *Rendered) matches(rule *v1alpha1.Rule, p Packet) bool {
	switch {
	case rule.IPVersion == 4 && !p.Source.Is4(), rule.IPVersion == 6 && !p.Source.Is6():
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

func (r *Rendered) matchesEntity(m *v1alpha1.EntityMatch, addr netip.Addr, port, protocol int) bool {
	for _, id := range m.Sets {
		if !r.InSet(id, addr) {
			return false
		}
	}
	for _, id := range m.NotSets {
		if r.InSet(id, addr) {
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

func (r *Rendered) hasPort(names []string, addr netip.Addr, port, protocol int) bool {
	for _, e := range r.remote(addr) {
		for _, p := range e.Ports {
			if slices.Contains(names, p.Name) && int(p.Port) == port && int(p.Protocol) == protocol {
				return true
			}
		}
	}
	return false
}

// remote are the endpoints that have an address, as all nodes know them.
func (r *Rendered) remote(addr netip.Addr) []v1alpha1.RemoteEndpoint {
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

func (r *Rendered) inPortSets(ids []string, addr netip.Addr, port, protocol int) bool {
	for _, catalog := range r.Catalogs {
		for _, s := range catalog.Spec.Sets {
			if !slices.Contains(ids, s.ID) {
				continue
			}
			for _, m := range s.Members {
				if int(m.Protocol) == protocol && int(m.Port) == port && slices.Contains(m.Addresses, addr.String()) {
					return true
				}
			}
		}
	}
	return false
}

// InSet tells whether an address is in a set.
func (r *Rendered) InSet(id string, addr netip.Addr) bool {
	for _, catalog := range r.Catalogs {
		for _, s := range catalog.Spec.Sets {
			if s.ID != id {
				continue
			}
			if inAny(s.CIDRs, addr) {
				return true
			}
			for _, e := range r.remote(addr) {
				for _, identity := range e.Identities {
					if slices.Contains(s.Identities, identity) {
						return true
					}
				}
			}
		}
	}
	return false
}
