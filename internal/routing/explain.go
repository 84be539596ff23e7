package routing

import (
	"fmt"
	"net/netip"
)

// Verdict is what a node does with an address of a service.
type Verdict struct {
	Address netip.Addr
	// Advertised is the prefix that the node advertises for it; not valid: none.
	Advertised netip.Prefix
	// Why it does, or does not.
	Why string
}

// Explain says what a node does with each address of a service, and why; false when there is no such node or service. Prefixes and reasons
// are those of the decisions that the plan is made of.
func (p *Plan) Explain(node string, name ServiceName) ([]Verdict, bool) {
	p.update()
	n, of := p.nodes[node], p.services[name]
	if n == nil || of == nil || !of.exists {
		return nil, false
	}
	s := p.settingsOf(node)
	var out []Verdict
	for _, k := range kinds() {
		for _, addr := range k.of(&of.Service) {
			out = append(out, p.explain(n, s, &k, of, addr))
		}
	}
	return out, true
}

func (p *Plan) explain(n *node, s *settings, k *kind, of *service, addr netip.Addr) Verdict {
	alone := p.judgeAddress(n, s, k, of, addr)
	if alone.advertises() {
		return Verdict{addr, hostPrefix(addr), alone.why(k, of)}
	}
	// What else may lead packets for it to the node: another service with the address, a range.
	v := Verdict{Address: addr, Advertised: n.announces(addr), Why: alone.why(k, of)}
	switch within, ofKind := p.rangeOf(n, s, k, addr); {
	case !v.Advertised.IsValid() && alone == withRange && ofKind.IsValid():
		// Only a range that is just this address is not advertised while others are: another service holds it.
		v.Why = ofService.why(k, of)
	case !v.Advertised.IsValid():
	case v.Advertised == within:
		v.Why = byRange.why(k, of)
		if alone == noneHere || alone == noneReady && of.Local {
			v.Why += "; the address alone is advertised by nodes with a ready endpoint"
		} else if alone == elsewhere {
			v.Why += "; " + alone.why(k, of)
		}
	default:
		v.Why = "it is advertised for another service, or for the addresses of another kind"
	}
	return v
}

// rangeOf is the most specific range of a kind with an address that the node advertises; configured is one that it does not.
func (p *Plan) rangeOf(n *node, s *settings, k *kind, addr netip.Addr) (advertised, configured netip.Prefix) {
	for _, cidr := range k.cidrs(s) {
		switch {
		case !cidr.Contains(addr):
		case !p.judgeRange(n, s, k, cidr).advertises():
			configured = cidr
		case cidr.Bits() >= advertised.Bits():
			advertised = cidr
		}
	}
	return advertised, configured
}

// announces is the most specific prefix with an address that the node advertises.
func (n *node) announces(addr netip.Addr) netip.Prefix {
	var best netip.Prefix
	for _, text := range n.announce {
		if cidr, err := netip.ParsePrefix(text); err == nil && cidr.Contains(addr) && cidr.Bits() >= best.Bits() {
			best = cidr
		}
	}
	return best
}

// why is the reason in words.
func (r reason) why(k *kind, of *service) string {
	switch r {
	case byRange:
		return fmt.Sprintf("every node advertises the ranges of %s", k.field)
	case localHere:
		return "externalTrafficPolicy is Local, and the node has a ready endpoint"
	case placedHere:
		return "the service is advertised from nodes that match " + of.From
	case oneByOne:
		return "addresses of load balancers are advertised one by one"
	case nodeExcluded:
		return fmt.Sprintf("the node has the label %s", LabelExclude)
	case outOfRange:
		return fmt.Sprintf("the address is in no CIDR of the BGPConfiguration's %s: add one", k.field)
	case withRange:
		return fmt.Sprintf("the address is advertised with its range in %s", k.field)
	case elsewhere:
		return "the service is advertised from nodes that match " + of.From + ", and this one does not"
	case noneHere:
		return "externalTrafficPolicy is Local, and the node has no ready endpoint"
	case ofService:
		return "another service with the address is advertised by some nodes only"
	case onlySingles:
		return fmt.Sprintf("addresses of %s are advertised one by one", k.field)
	case noneReady:
	}
	return "the service has no ready endpoint"
}
