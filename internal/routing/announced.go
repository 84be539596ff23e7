package routing

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// kind of service addresses: cluster IPs, external ones, load balancers'.
type kind struct {
	// field of BGPConfiguration with the CIDRs.
	field string
	cidrs func(*settings) []netip.Prefix
	of    func(*Service) []netip.Addr
	// single: addresses are advertised one by one.
	single func(*settings) bool
}

func never(*settings) bool { return false }

func kinds() [3]kind {
	return [3]kind{
		{"serviceClusterIPs", func(s *settings) []netip.Prefix { return s.clusterIPs }, func(o *Service) []netip.Addr { return o.ClusterIPs }, never},
		{"serviceExternalIPs", func(s *settings) []netip.Prefix { return s.externalIPs }, func(o *Service) []netip.Addr { return o.ExternalIPs }, never},
		{
			"serviceLoadBalancerIPs", func(s *settings) []netip.Prefix { return s.loadBalancerIPs }, func(o *Service) []netip.Addr { return o.LoadBalancerIPs },
			func(s *settings) bool { return !s.aggregates() },
		},
	}
}

// reason of a decision about an address or a range of services.
type reason uint8

const (
	// Advertised:
	byRange    reason = iota // the range, by every node
	localHere                // a Local service's address, by a node with a ready endpoint
	placedHere               // the address of a service that selects the node
	oneByOne                 // a load balancer's address, by itself
	// Not advertised:
	nodeExcluded
	outOfRange  // the address lies in no CIDR of its kind
	withRange   // the address, since its range is
	elsewhere   // the service selects other nodes
	noneHere    // it has ready endpoints on other nodes alone
	noneReady   // it has none at all
	onlySingles // the range, since its addresses are advertised one by one
	ofService   // a range of one address, which goes the way of its service
)

// advertises tells whether the decision is for it.
func (r reason) advertises() bool { return r <= oneByOne }

// judgeRange decides whether a node advertises a range of service addresses as it is.
func (p *Plan) judgeRange(n *node, s *settings, k *kind, cidr netip.Prefix) reason {
	switch {
	case excluded(n.Labels):
		return nodeExcluded
	case k.single(s):
		return onlySingles
	case cidr.IsSingleIP() && p.heldLocally[cidr.Addr()] > 0:
		return ofService
	}
	return byRange
}

// judgeAddress decides whether a node advertises an address of a service by itself.
func (p *Plan) judgeAddress(n *node, s *settings, k *kind, of *service, addr netip.Addr) reason {
	switch {
	case excluded(n.Labels):
		return nodeExcluded
	case !slices.ContainsFunc(k.cidrs(s), func(cidr netip.Prefix) bool { return cidr.Contains(addr) }):
		return outOfRange
	case !of.single() && !k.single(s):
		return withRange
	case of.placed() && (of.from == nil || !of.from.Match(selector.Map(n.Labels))):
		return elsewhere
	case !of.ready:
		return noneReady
	case of.Local:
		if _, here := p.local[n.Name][of]; !here {
			return noneHere
		}
		return localHere
	case of.placed():
		return placedHere
	}
	return oneByOne
}

// announced are the prefixes that a node advertises for services, in order. Services are looked at that have an endpoint on the node or
// concern every node.
func (p *Plan) announced(n *node) []string {
	s := p.settingsOf(n.Name)
	all := map[netip.Prefix]struct{}{}
	for _, k := range kinds() {
		for _, cidr := range k.cidrs(s) {
			if p.judgeRange(n, s, &k, cidr).advertises() {
				all[cidr] = struct{}{}
			}
		}
		for _, services := range [2]map[*service]struct{}{p.local[n.Name], p.everywhere} {
			for of := range services {
				for _, addr := range k.of(&of.Service) {
					if p.judgeAddress(n, s, &k, of, addr).advertises() {
						all[hostPrefix(addr)] = struct{}{}
					}
				}
			}
		}
	}
	var out []string
	for _, cidr := range sortedPrefixes(all) {
		out = append(out, cidr.String())
	}
	return out
}
