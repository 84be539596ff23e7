package routing

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// ServiceName is the name of a service in its namespace.
type ServiceName struct{ Namespace, Name string }

// Service is a service as far as routes go.
type Service struct {
	Name ServiceName
	// ClusterIPs, ExternalIPs and LoadBalancerIPs are its addresses; a headless service has none.
	ClusterIPs, ExternalIPs, LoadBalancerIPs []netip.Addr
	// Local: externalTrafficPolicy is Local.
	Local bool
	// From is a selector of the nodes that advertise the service. Empty: all. One that can't be read selects none.
	From string
}

// service is a service and where its endpoints are.
type service struct {
	Service
	from *selector.Selector
	// exists: there is a Service, and not only endpoints.
	exists bool
	// nodes with a ready endpoint, in order; ready: there is one at all.
	nodes []string
	ready bool
}

func (s *Service) equal(o *Service) bool {
	return s.Local == o.Local && s.From == o.From && slices.Equal(s.ClusterIPs, o.ClusterIPs) &&
		slices.Equal(s.ExternalIPs, o.ExternalIPs) && slices.Equal(s.LoadBalancerIPs, o.LoadBalancerIPs)
}

// placed tells whether the service says which nodes advertise it.
func (s *service) placed() bool { return s.From != "" }

// single tells whether each address of the service is advertised on its own, by some nodes only.
func (s *service) single() bool { return s.exists && (s.Local || s.placed()) }

// SetService takes in a service as it is now.
func (p *Plan) SetService(o Service) {
	s := p.service(o.Name)
	if s.exists && s.equal(&o) {
		return
	}
	p.leave(s)
	s.Service, s.exists, s.from = o, true, nil
	if s.placed() {
		s.from, _ = selector.Parse(o.From)
	}
	p.join(s)
}

// DeleteService takes note that a service is gone.
func (p *Plan) DeleteService(name ServiceName) {
	s := p.services[name]
	if s == nil {
		return
	}
	p.leave(s)
	s.Service, s.exists, s.from = Service{Name: name}, false, nil
	p.join(s)
	p.dropService(s)
}

// SetEndpoints takes in the nodes on which a service has ready endpoints, and whether it has any at all: endpoints need not be on a
// node of the cluster.
func (p *Plan) SetEndpoints(name ServiceName, nodes []string, ready bool) {
	nodes = sorted(nodes)
	s := p.service(name)
	if s.ready == ready && slices.Equal(s.nodes, nodes) {
		p.dropService(s)
		return
	}
	p.leave(s)
	s.nodes, s.ready = nodes, ready
	p.join(s)
	p.dropService(s)
}

func (p *Plan) service(name ServiceName) *service {
	s := p.services[name]
	if s == nil {
		s = &service{Service: Service{Name: name}}
		p.services[name] = s
	}
	return s
}

func (p *Plan) dropService(s *service) {
	if !s.exists && !s.ready && len(s.nodes) == 0 {
		delete(p.services, s.Name)
	}
}

// leave takes a service out of all that follows from it, and join puts it in. What it was advertised by before and is afterwards
// may change.
func (p *Plan) leave(s *service) {
	if _, ok := p.everywhere[s]; ok {
		delete(p.everywhere, s)
		p.touchAll(staleServices)
	}
	if !s.single() {
		return
	}
	if s.placed() {
		p.placed--
	}
	for addr := range s.addresses {
		if p.heldLocally[addr]--; p.heldLocally[addr] == 0 {
			delete(p.heldLocally, addr)
			p.touchEntry(addr)
		}
	}
	if s.Local {
		for _, name := range s.nodes {
			delete(p.local[name], s)
			if len(p.local[name]) == 0 {
				delete(p.local, name)
			}
			p.touchNode(name, staleServices)
		}
	}
}

func (p *Plan) join(s *service) {
	if p.isEverywhere(s) {
		p.everywhere[s] = struct{}{}
		p.touchAll(staleServices)
	}
	if !s.single() {
		return
	}
	if s.placed() {
		p.placed++
	}
	for addr := range s.addresses {
		if p.heldLocally[addr]++; p.heldLocally[addr] == 1 {
			p.touchEntry(addr)
		}
	}
	if s.Local {
		for _, name := range s.nodes {
			if p.local[name] == nil {
				p.local[name] = map[*service]struct{}{}
			}
			p.local[name][s] = struct{}{}
			p.touchNode(name, staleServices)
		}
	}
}

// isEverywhere tells whether nodes have to look at the service that have no endpoint of it: it is advertised by nodes that it
// selects, or by all because some do not aggregate.
func (p *Plan) isEverywhere(s *service) bool {
	if !s.exists || !s.ready || s.Local {
		return false
	}
	return s.placed() || len(s.LoadBalancerIPs) > 0 && p.anySingleLoadBalancers()
}

func (p *Plan) anySingleLoadBalancers() bool {
	for _, c := range p.configurations {
		if !c.aggregates() {
			return true
		}
	}
	return false
}

// sortServices finds anew which services every node has to look at, after a change of the configuration.
func (p *Plan) sortServices() {
	clear(p.everywhere)
	for _, s := range p.services {
		if p.isEverywhere(s) {
			p.everywhere[s] = struct{}{}
		}
	}
}

// touchEntry notes that an address began or ceased to be advertised by some nodes only, which counts where the configuration has
// just this address.
func (p *Plan) touchEntry(addr netip.Addr) {
	for _, c := range p.configurations {
		for _, list := range [3][]netip.Prefix{c.clusterIPs, c.externalIPs, c.loadBalancerIPs} {
			if slices.Contains(list, hostPrefix(addr)) {
				p.touchAll(staleServices)
				return
			}
		}
	}
}

// addresses calls yield for every address of the service.
func (s *service) addresses(yield func(netip.Addr) bool) {
	for _, list := range [3][]netip.Addr{s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs} {
		for _, addr := range list {
			if !yield(addr) {
				return
			}
		}
	}
}

func hostPrefix(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// sortedPrefixes are the keys of a map: IPv4 first, then by address, wider ones first.
func sortedPrefixes[T any](all map[netip.Prefix]T) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(all))
	for cidr := range all {
		out = append(out, cidr)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}
