package routing

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// Verdict is what a node does with an address of a service.
type Verdict struct {
	Address netip.Addr
	// Advertised is the prefix that the node advertises for it; not valid: none.
	Advertised netip.Prefix
	// Why it does, or does not.
	Why string
}

// Explain says what a node does with each address of a service, and why; false when there is no such node or service. The prefixes are
// those of the plan.
func (p *Plan) Explain(node string, name ServiceName) ([]Verdict, bool) {
	p.update()
	n, s := p.nodes[node], p.services[name]
	if n == nil || s == nil || !s.exists {
		return nil, false
	}
	settings := p.settingsOf(node)
	var out []Verdict
	for _, kind := range []struct {
		addresses []netip.Addr
		cidrs     []netip.Prefix
		field     string
		// balanced: it is a load balancer's address.
		balanced bool
	}{
		{s.ClusterIPs, settings.clusterIPs, "serviceClusterIPs", false},
		{s.ExternalIPs, settings.externalIPs, "serviceExternalIPs", false},
		{s.LoadBalancerIPs, settings.loadBalancerIPs, "serviceLoadBalancerIPs", true},
	} {
		for _, addr := range kind.addresses {
			single := s.single() || kind.balanced && !settings.aggregates()
			v := Verdict{Address: addr, Advertised: n.announces(addr)}
			v.Why = p.why(n, s, v, single, kind.cidrs, kind.field)
			out = append(out, v)
		}
	}
	return out, true
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

// why gives the reason of what the plan has decided, by the conditions that it goes by.
func (p *Plan) why(n *node, s *service, v Verdict, single bool, cidrs []netip.Prefix, field string) string {
	inRange := slices.ContainsFunc(cidrs, func(cidr netip.Prefix) bool { return cidr.Contains(v.Address) })
	switch {
	case excluded(n.Labels):
		return fmt.Sprintf("the node has the label %s", LabelExclude)
	case !inRange && !v.Advertised.IsValid():
		return fmt.Sprintf("the address is in no CIDR of the BGPConfiguration's %s: add one", field)
	case !inRange:
		return "the address lies in a range that is advertised for other services"
	case v.Advertised.IsValid() && !v.Advertised.IsSingleIP():
		return p.whole(n, s, single, field)
	case v.Advertised.IsValid() && s.Local:
		return "externalTrafficPolicy is Local, and the node has a ready endpoint"
	case v.Advertised.IsValid() && s.placed():
		return "the service is advertised from nodes that match " + s.From
	case v.Advertised.IsValid():
		return fmt.Sprintf("%s has just this address, or addresses of load balancers are advertised one by one", field)
	case s.placed() && (s.from == nil || !s.from.Match(selector.Map(n.Labels))):
		return "the service is advertised from nodes that match " + s.From + ", and this one does not"
	case s.Local && s.ready:
		return "externalTrafficPolicy is Local, and the node has no ready endpoint"
	}
	return "the service has no ready endpoint"
}

// whole is why a range is advertised that the address lies in.
func (p *Plan) whole(n *node, s *service, single bool, field string) string {
	text := fmt.Sprintf("every node advertises the ranges of %s", field)
	if _, here := p.local[n.Name][s]; single && s.Local && !here {
		text += "; the address alone is advertised by nodes with a ready endpoint"
	}
	return text
}
