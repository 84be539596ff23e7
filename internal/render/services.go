package render

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/routing"
)

// service is what is known of a service: its endpoint slices, and the sets that stand for its endpoints. Whether there is
// a Service object does not matter.
type service struct {
	name   policy.Service
	slices map[string]*discoveryv1.EndpointSlice
	sets   map[*set]struct{}
}

// service returns the service called name; dropService lets go of it.
func (c *Cluster) service(name policy.Service) *service {
	s := c.services[name]
	if s == nil {
		s = &service{name: name, slices: map[string]*discoveryv1.EndpointSlice{}, sets: map[*set]struct{}{}}
		c.services[name] = s
	}
	return s
}

func (c *Cluster) dropService(s *service) {
	if len(s.slices) == 0 && len(s.sets) == 0 {
		delete(c.services, s.name)
	}
}

// setSlice takes in an endpoint slice: of a service with a selector, or made by hand.
func (c *Cluster) setSlice(o *discoveryv1.EndpointSlice) {
	name := objectName{o.Namespace, o.Name}
	of := policy.Service{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
	if before := c.slices[name]; before != nil && before.name != of {
		c.deleteSlice(name)
	}
	if of.Name == "" {
		return
	}
	s := c.service(of)
	c.slices[name] = s
	before := s.slices[o.Name]
	s.slices[o.Name] = o
	if before == nil || before.AddressType != o.AddressType || !equality.Semantic.DeepEqual(before.Ports, o.Ports) ||
		!equality.Semantic.DeepEqual(before.Endpoints, o.Endpoints) {
		c.touchService(s)
	}
}

func (c *Cluster) deleteSlice(name objectName) {
	s := c.slices[name]
	if s == nil {
		return
	}
	delete(c.slices, name)
	delete(s.slices, name.name)
	c.touchService(s)
	c.dropService(s)
}

func (c *Cluster) touchService(s *service) {
	nodes, ready := s.nodes()
	c.routes.SetEndpoints(routing.ServiceName(s.name), nodes, ready)
	for set := range s.sets {
		c.touch(KindSetCatalog, set.shard.name)
	}
}

// ready calls yield for every address of a ready endpoint, with the ports of its slice.
func (s *service) ready(yield func(addr netip.Addr, ports []discoveryv1.EndpointPort)) {
	for _, slice := range s.slices {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready { // absent means ready, says the API
				continue
			}
			for _, text := range e.Addresses {
				// Slices of names instead of addresses have nothing that packets could match.
				if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
					yield(addr.Unmap(), slice.Ports)
				}
			}
		}
	}
}

// nodes are those with a ready endpoint of the service, each once, and whether there is a ready endpoint at all.
func (s *service) nodes() (names []string, ready bool) {
	seen := map[string]struct{}{}
	for _, slice := range s.slices {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			ready = true
			if e.NodeName != nil {
				seen[*e.NodeName] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), ready
}

// nets are the addresses of the service's ready endpoints.
func (s *service) nets() []netip.Prefix {
	var out []netip.Prefix
	s.ready(func(addr netip.Addr, _ []discoveryv1.EndpointPort) {
		out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
	})
	return out
}

// members are the addresses of the service's ready endpoints with their ports, in order. A port without a number stands
// for no port in particular, and is left out.
func (s *service) members() []v1alpha1.PortMembers {
	type port struct{ protocol, number int32 }
	all := map[port][]netip.Addr{}
	s.ready(func(addr netip.Addr, ports []discoveryv1.EndpointPort) {
		for _, p := range ports {
			name := corev1.ProtocolTCP
			if p.Protocol != nil {
				name = *p.Protocol
			}
			if protocol, ok := policy.ProtocolNumber(name); ok && p.Port != nil && *p.Port > 0 {
				all[port{protocol, *p.Port}] = append(all[port{protocol, *p.Port}], addr)
			}
		}
	})
	var out []v1alpha1.PortMembers
	for p, addrs := range all {
		slices.SortFunc(addrs, netip.Addr.Compare)
		m := v1alpha1.PortMembers{Protocol: p.protocol, Port: p.number}
		for _, addr := range slices.Compact(addrs) {
			m.Addresses = append(m.Addresses, addr.String())
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b v1alpha1.PortMembers) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return out
}
