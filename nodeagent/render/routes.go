package render

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// destination is all that is said about one destination. What is most local wins.
type destination struct {
	workloads map[string]int        // interfaces
	floating  string                // interface of the workload whose floating address it is
	own       bool                  // a block of this node
	gateways  map[string]netip.Addr // node that has the block -> its address
	singles   map[string]netip.Addr // node behind which the single address is -> the node's own
}

// route decides. Two claims to one block, while it moves, are decided the same way on every node.
func (d *destination) route() (tables.Route, bool) {
	switch {
	case len(d.workloads) > 0:
		return tables.Route{Type: tables.Workload, Interface: least(d.workloads)}, true
	case d.floating != "":
		return tables.Route{Type: tables.Workload, Interface: d.floating}, true
	case len(d.singles) > 0: // counts before a block of one address
		return tables.Route{Type: tables.Gateway, NextHop: d.singles[least(d.singles)]}, true
	case d.own:
		return tables.Route{Type: tables.Blackhole}, true
	case len(d.gateways) > 0:
		return tables.Route{Type: tables.Gateway, NextHop: d.gateways[least(d.gateways)]}, true
	}
	return tables.Route{}, false
}

// here tells whether the destination is a workload of this node.
func (d *destination) here() bool { return len(d.workloads) > 0 || d.floating != "" }

func least[V any](m map[string]V) string {
	first, found := "", false
	for k := range m {
		if !found || k < first {
			first, found = k, true
		}
	}
	return first
}

// claim changes what is said about a destination and then the table.
func (s *State) claim(prefix netip.Prefix, change func(*destination)) {
	d := s.dests[prefix]
	if d == nil {
		d = &destination{workloads: map[string]int{}, gateways: map[string]netip.Addr{}, singles: map[string]netip.Addr{}}
		s.dests[prefix] = d
	}
	change(d)
	if _, ok := d.route(); !ok {
		delete(s.dests, prefix)
	}
	s.decideRoute(prefix, d)
}

// decideRoute makes the route to a destination what is said about it.
func (s *State) decideRoute(prefix netip.Prefix, d *destination) {
	r, ok := d.route()
	if r.Type == tables.Gateway {
		r = s.encapsulated(prefix, r) // of the ends of tunnels BGP knows nothing
	}
	if !ok || r.Type != tables.Gateway || !s.isByBGP(prefix) {
		delete(s.bridge.over, prefix) // nothing is left to wait for
	}
	if ok && (r.Type != tables.Gateway || !s.isByBGP(prefix) || s.isBridged(prefix)) {
		s.routes.Set(prefix, r)
	} else {
		s.routes.Delete(prefix)
	}
	s.exportWorkload(prefix, d.here())
	s.decideLearned(prefix)
}

func (s *State) moveRoutes(iface string, old, next []netip.Addr) {
	for _, addr := range next {
		s.claim(netip.PrefixFrom(addr, addr.BitLen()), func(d *destination) { d.workloads[iface]++ })
	}
	for _, addr := range old {
		s.claim(netip.PrefixFrom(addr, addr.BitLen()), func(d *destination) {
			if d.workloads[iface]--; d.workloads[iface] <= 0 {
				delete(d.workloads, iface)
			}
		})
	}
}

func (s *State) setOwnBlocks(blocks []netip.Prefix) {
	for _, b := range s.ownBlocks {
		if !slices.Contains(blocks, b) {
			s.claim(b, func(d *destination) { d.own = false })
		}
	}
	for _, b := range blocks {
		s.claim(b, func(d *destination) { d.own = true })
	}
	s.ownBlocks = blocks
}

// SetNetwork takes news of a node's addresses and blocks.
func (s *State) SetNetwork(node string, spec *v1alpha1.NodeNetworkSpec) {
	if node == s.node {
		was := s.OwnAddresses()
		s.networks[node] = *spec
		for _, addr := range append(was, s.OwnAddresses()...) {
			s.decideNode(netip.PrefixFrom(addr, addr.BitLen()))
		}
		s.setOwnNetwork(spec)
		return
	}
	s.setTunnelNode(node, s.networks[node].Addresses, spec.Addresses)
	next, err := gateways(spec)
	s.problem(KindNodeNetwork, node, err)
	old, _ := gateways(new(s.networks[node])) // its problem was noted when it came
	s.networks[node] = *spec
	for block, hop := range next {
		s.claim(block, func(d *destination) { hop.put(d, node) })
	}
	for block := range old {
		if _, stays := next[block]; !stays {
			s.claim(block, func(d *destination) { hop{}.put(d, node) })
		}
	}
	s.setMeshSessions(node)
}

// setOwnNetwork takes over the node's own addresses, which tunnels begin at, and subnets.
func (s *State) setOwnNetwork(spec *v1alpha1.NodeNetworkSpec) {
	subnets, err := prefixes(spec.Subnets)
	s.problem(KindNodeNetwork, s.node, err)
	for _, kind := range tables.TunnelKinds() {
		s.decideDevice(kind)
	}
	if !slices.Equal(s.ownSubnets, subnets) {
		s.ownSubnets = subnets
		s.decideGateways()
	}
}

// DeleteNetwork takes the news that a node is gone.
func (s *State) DeleteNetwork(node string) {
	s.SetNetwork(node, &v1alpha1.NodeNetworkSpec{})
	delete(s.networks, node)
	s.setMeshSessions(node)
}

// OwnAddresses are the addresses of this node.
func (s *State) OwnAddresses() []netip.Addr {
	addrs, _ := addresses(s.networks[s.node].Addresses) // what can't be read is of no use to the caller
	return addrs
}

// hop is how a node's block, or a single address behind it, is reached: by its address for one or the other.
type hop struct{ block, single netip.Addr }

// put says it of a destination.
func (h hop) put(d *destination, node string) {
	for _, x := range []struct {
		hops map[string]netip.Addr
		via  netip.Addr
	}{{d.gateways, h.block}, {d.singles, h.single}} {
		if x.via.IsValid() {
			x.hops[node] = x.via
		} else {
			delete(x.hops, node)
		}
	}
}

// gateways gives the way to each block of a node, and to each single address that lies behind it, borrowed, floating or without a pool: the node's
// address of the same family.
func gateways(spec *v1alpha1.NodeNetworkSpec) (map[netip.Prefix]hop, error) {
	addrs, problem := addresses(spec.Addresses)
	hops := make(map[netip.Prefix]hop, len(spec.Blocks)+len(spec.Borrowed)+len(spec.Single))
	blocks, err := prefixes(spec.Blocks)
	problem = errors.Join(problem, err)
	singles, err := addresses(slices.Concat(spec.Borrowed, spec.Single))
	problem = errors.Join(problem, err)
	via := func(cidr netip.Prefix) netip.Addr {
		i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == cidr.Addr().Is4() })
		if i < 0 {
			problem = errors.Join(problem, fmt.Errorf("block %s: the node has no address of its family", cidr))
			return netip.Addr{}
		}
		return addrs[i]
	}
	for _, block := range blocks {
		if addr := via(block); addr.IsValid() {
			hops[block] = hop{block: addr}
		}
	}
	for _, single := range singles {
		cidr := netip.PrefixFrom(single, single.BitLen())
		if addr := via(cidr); addr.IsValid() {
			hops[cidr] = hop{block: hops[cidr].block, single: addr}
		}
	}
	return hops, problem
}
