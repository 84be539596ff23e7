package render

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

const defaultVNI = 4096

// tunnels is what is known of encapsulation, beside the tables.
type tunnels struct {
	table *tables.Tunnels
	// pools in order of falling prefix length.
	pools []encapsulation
	// wanted are the ends that the node is to have, without addresses; own its addresses in the tunnels.
	wanted map[tables.TunnelKind]tables.Tunnel
	own    map[tables.TunnelKind]netip.Addr
	// nodes: address of another node -> names of the nodes that say it is theirs.
	nodes index
	// external are others that may send packets of tunnels to the node.
	external []netip.Prefix
}

// encapsulation is how packets to a pool's addresses on other nodes are sent.
type encapsulation struct {
	pool        netip.Prefix
	kind        tables.TunnelKind // 0: as they are
	crossSubnet bool
}

func newTunnels() tunnels {
	return tunnels{
		table: tables.NewTunnels(), wanted: map[tables.TunnelKind]tables.Tunnel{}, own: map[tables.TunnelKind]netip.Addr{}, nodes: index{},
	}
}

// Tunnels are the desired ends of tunnels.
func (s *State) Tunnels() *tables.Tunnels { return s.tunnels.table }

// SetTunnelAddress takes the news that the node has an address in a tunnel; not valid: none.
func (s *State) SetTunnelAddress(kind tables.TunnelKind, addr netip.Addr) {
	s.tunnels.own[kind] = addr
	s.decideDevice(kind)
}

// TunnelKind is the kind of that name; 0: there is none.
func TunnelKind(name v1alpha1.TunnelKind) tables.TunnelKind {
	for _, kind := range tables.TunnelKinds() {
		if kind.String() == string(name) {
			return kind
		}
	}
	return 0
}

// setTunnels takes over which ends of tunnels the node is to have, and for which pools.
func (s *State) setTunnels(spec *v1alpha1.NodeStateSpec) error {
	var problem error
	t := &s.tunnels
	wanted := map[tables.TunnelKind]tables.Tunnel{}
	for i := range spec.Tunnels {
		w := &spec.Tunnels[i]
		kind := TunnelKind(w.Kind)
		if kind == 0 || w.MTU < 0 || w.VNI < 0 || w.VNI >= 1<<24 || w.Port < 0 || w.Port > 65535 {
			problem = errors.Join(problem, fmt.Errorf("tunnels[%d]: kind %q, mtu %d, vni %d, port %d: not all are known and in range", i, w.Kind, w.MTU, w.VNI, w.Port))
			continue
		}
		tunnel := tables.Tunnel{MTU: int(w.MTU), MTUInterfaces: spec.Settings.MTUInterfaces}
		if kind != tables.IPIP {
			tunnel.MAC, tunnel.VNI, tunnel.Port = tunnelMAC(s.node), uint32(w.VNI), uint16(w.Port)
			if tunnel.VNI == 0 {
				tunnel.VNI = defaultVNI
			}
			if tunnel.Port == 0 {
				tunnel.Port = defaultVXLANPort
			}
		}
		wanted[kind] = tunnel
	}
	var pools []encapsulation
	for i := range spec.Pools {
		p := &spec.Pools[i]
		cidr, err := netip.ParsePrefix(p.CIDR)
		if err != nil {
			continue // told by setPools of the policy
		}
		kind := TunnelKind(p.Encapsulation)
		if p.Encapsulation != "" && (kind == 0 || kind.Is4() != cidr.Addr().Is4()) {
			problem = errors.Join(problem, fmt.Errorf("pool %s: encapsulation %q is none for it", p.CIDR, p.Encapsulation))
		}
		pools = append(pools, encapsulation{pool: cidr.Masked(), kind: kind, crossSubnet: p.CrossSubnet})
	}
	slices.SortStableFunc(pools, func(a, b encapsulation) int { return b.pool.Bits() - a.pool.Bits() })
	before := t.wanted
	t.wanted = wanted
	external, err := prefixes(spec.Settings.ExternalNodes)
	if err != nil {
		problem = errors.Join(problem, fmt.Errorf("settings.externalNodes: %w", err))
	}
	s.setExternalNodes(external)
	for _, kind := range tables.TunnelKinds() {
		s.decideDevice(kind)
	}
	if !maps.EqualFunc(before, wanted, func(_, _ tables.Tunnel) bool { return true }) {
		for addr := range t.nodes {
			s.decidePeers(addr)
		}
	}
	if !slices.Equal(t.pools, pools) {
		t.pools = pools
		s.decideGateways()
	}
	return problem
}

// setExternalNodes takes over which others may send packets of tunnels.
func (s *State) setExternalNodes(nets []netip.Prefix) {
	t := &s.tunnels
	old := t.external
	t.external = nets
	for _, p := range nets {
		s.policy.Nodes.Set(p, struct{}{})
	}
	for _, p := range old {
		if !slices.Contains(nets, p) {
			s.decideNode(p)
		}
	}
}

// decideNode makes an address one of those between which tunnels carry packets, or none.
func (s *State) decideNode(p netip.Prefix) {
	t := &s.tunnels
	own := slices.ContainsFunc(s.OwnAddresses(), func(a netip.Addr) bool { return p == netip.PrefixFrom(a, a.BitLen()) })
	known := p.IsSingleIP() && len(t.nodes[p.Addr().String()]) > 0
	if own || known || slices.Contains(t.external, p) {
		s.policy.Nodes.Set(p, struct{}{})
	} else {
		s.policy.Nodes.Delete(p)
	}
}

// decideDevice makes one end of a tunnel what it should be. Without an address of the node there is none.
func (s *State) decideDevice(kind tables.TunnelKind) {
	t := &s.tunnels
	tunnel, wanted := t.wanted[kind]
	for _, addr := range s.OwnAddresses() {
		if addr.Is4() == kind.Is4() {
			tunnel.Local = addr
		}
	}
	if !wanted || !tunnel.Local.IsValid() {
		t.table.Devices.Delete(kind)
		return
	}
	tunnel.Address = t.own[kind]
	t.table.Devices.Set(kind, tunnel)
}

// decideGateways looks anew at all routes to other nodes: pools or the node's own subnets changed.
func (s *State) decideGateways() {
	for p, d := range s.dests {
		if len(d.gateways) > 0 {
			s.decideRoute(p, d)
		}
	}
}

// encapsulated is the route to a destination on another node, through a tunnel where the destination's pool wants that.
func (s *State) encapsulated(p netip.Prefix, r tables.Route) tables.Route {
	kind := s.tunnelTo(p, r.NextHop)
	if kind == 0 {
		return r
	}
	out := tables.Route{Type: tables.Encapsulated, Interface: kind.Device(), NextHop: r.NextHop}
	if kind == tables.VXLANv6 {
		names := s.tunnels.nodes.sorted(r.NextHop.String())
		if len(names) == 0 {
			return r
		}
		out.NextHop = neighborOf(kind, r.NextHop, names[0]).NextHop
	}
	return out
}

// tunnelTo is the tunnel through which packets to a destination on another node go; 0: none.
func (s *State) tunnelTo(p netip.Prefix, node netip.Addr) tables.TunnelKind {
	for _, e := range s.tunnels.pools {
		if e.pool.Bits() > p.Bits() || !e.pool.Contains(p.Addr()) {
			continue
		}
		if e.crossSubnet && anyContains(s.ownSubnets, netip.PrefixFrom(node, node.BitLen())) {
			return 0
		}
		return e.kind
	}
	return 0
}

// setTunnelNode takes over which addresses another node has.
func (s *State) setTunnelNode(node string, old, next []string) {
	t := &s.tunnels
	was, _ := addresses(old)  // told by SetNetwork when it came
	are, _ := addresses(next) // told by SetNetwork
	for _, addr := range was {
		if !slices.Contains(are, addr) {
			t.nodes.remove(addr.String(), node)
			s.decidePeers(addr.String())
			s.decideNode(netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	for _, addr := range are {
		t.nodes.add(addr.String(), node)
		s.decidePeers(addr.String())
		s.decideNode(netip.PrefixFrom(addr, addr.BitLen()))
	}
}

// decidePeers makes what leads to the ends of tunnels at an address what it should be. Of two nodes that say it is theirs, while
// one takes the other's place, the first by name counts.
func (s *State) decidePeers(text string) {
	t := &s.tunnels
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return // no key of the index
	}
	for _, kind := range [...]tables.TunnelKind{tables.VXLAN, tables.VXLANv6} {
		key := tables.TunnelPeer{Kind: kind, Node: addr}
		_, wanted := t.wanted[kind]
		names := t.nodes.sorted(text)
		if !wanted || len(names) == 0 || kind.Is4() != addr.Is4() {
			t.table.Peers.Delete(key)
			continue
		}
		before, had := t.table.Peers.Get(key)
		next := neighborOf(kind, addr, names[0])
		t.table.Peers.Set(key, next)
		if had && before.NextHop != next.NextHop {
			s.decideGateways()
		}
	}
}

// neighborOf is how a node is reached inside a tunnel. No node has to tell another: its MAC address follows from its name. Of IPv4
// the next hop is the node's own address; of IPv6 that would be taken for one on the node's network, and the next hop is the
// link-local address that the device gets from its MAC address (RFC 4291, appendix A).
func neighborOf(kind tables.TunnelKind, addr netip.Addr, node string) tables.Neighbor {
	mac := tunnelMAC(node)
	if kind.Is4() {
		return tables.Neighbor{NextHop: addr, MAC: mac}
	}
	const universal = 2
	hop := [16]byte{0xfe, 0x80, 8: mac[0] ^ universal, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
	return tables.Neighbor{NextHop: netip.AddrFrom16(hop), MAC: mac}
}

// tunnelMAC is the MAC address of a node's VXLAN devices: of the SHA-256 of its name the first six bytes, as a locally administered address
// of one host.
func tunnelMAC(node string) tables.MAC {
	sum := sha256.Sum256([]byte(node))
	mac := tables.MAC(sum[:6])
	const group, local = 1, 2
	mac[0] = mac[0]&^group | local
	return mac
}
