package render

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
)

// felixTunnels is what counts for tunnels of a FelixConfiguration. What is absent is zero.
type felixTunnels struct {
	ipip, vxlan                *bool // nil: the pools say
	ipipMTU, vxlanMTU, vxlanV6 int
	vni                        int
	mtuInterfaces              string
	externalNodes              []string
}

func felixTunnelsOf(spec *v3.FelixConfigurationSpec) felixTunnels {
	number := func(n *int) int {
		if n == nil {
			return 0
		}
		return *n
	}
	return felixTunnels{
		ipip: spec.IPIPEnabled, vxlan: spec.VXLANEnabled,
		ipipMTU: number(spec.IPIPMTU), vxlanMTU: number(spec.VXLANMTU), vxlanV6: number(spec.VXLANMTUV6), vni: number(spec.VXLANVNI),
		mtuInterfaces: spec.MTUIfacePattern, externalNodes: spec.ExternalNodesList,
	}
}

// over is t where it says something, otherwise general.
func (t *felixTunnels) over(general *felixTunnels) felixTunnels {
	out := felixTunnels{
		ipip: cmp.Or(t.ipip, general.ipip), vxlan: cmp.Or(t.vxlan, general.vxlan),
		ipipMTU: cmp.Or(t.ipipMTU, general.ipipMTU), vxlanMTU: cmp.Or(t.vxlanMTU, general.vxlanMTU), vxlanV6: cmp.Or(t.vxlanV6, general.vxlanV6),
		vni: cmp.Or(t.vni, general.vni), mtuInterfaces: cmp.Or(t.mtuInterfaces, general.mtuInterfaces), externalNodes: t.externalNodes,
	}
	if out.externalNodes == nil {
		out.externalNodes = general.externalNodes
	}
	return out
}

// tunnelKind is the encapsulation of packets to the pool's addresses on other nodes; "": none.
func (p *poolSpec) tunnelKind() v1alpha1.TunnelKind {
	switch {
	case p.vxlan && p.cidr.Addr().Is6():
		return v1alpha1.TunnelVXLANv6
	case p.vxlan:
		return v1alpha1.TunnelVXLAN
	case p.ipip && p.cidr.Addr().Is4():
		return v1alpha1.TunnelIPIP
	}
	return ""
}

// switchedOff tells whether the settings of a node say that it is to have no tunnels of a kind.
func (t *felixTunnels) switchedOff(kind v1alpha1.TunnelKind) bool {
	on := t.vxlan
	if kind == v1alpha1.TunnelIPIP {
		on = t.ipip
	}
	return on != nil && !*on
}

// encapsulate notes in a node's pools, which are in order of their CIDRs, how packets to them are sent. Should two pools have one
// CIDR, the first by name says.
func (c *Cluster) encapsulate(pools []v1alpha1.Pool, t *felixTunnels) {
	names := make([]string, 0, len(c.pools))
	for name := range c.pools {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range pools {
		for _, name := range names {
			p := c.pools[name]
			if p.cidr.String() != pools[i].CIDR {
				continue
			}
			if kind := p.tunnelKind(); kind != "" && !t.switchedOff(kind) {
				pools[i].Encapsulation, pools[i].CrossSubnet = kind, p.crossSubnet
			}
			break
		}
	}
}

// tunnelsFor are the ends of tunnels that a node is to have: of the kinds that pools want, disabled ones too, because of the addresses that
// are in use, and of those that its settings want in any case.
func (c *Cluster) tunnelsFor(n *node, t *felixTunnels, port int32) []v1alpha1.Tunnel {
	wanted := map[v1alpha1.TunnelKind]bool{}
	for _, p := range c.pools {
		wanted[p.tunnelKind()] = true
	}
	always := func(on *bool) bool { return on != nil && *on }
	var out []v1alpha1.Tunnel
	for _, kind := range [...]v1alpha1.TunnelKind{v1alpha1.TunnelIPIP, v1alpha1.TunnelVXLAN, v1alpha1.TunnelVXLANv6} {
		forced := kind == v1alpha1.TunnelIPIP && always(t.ipip) || kind == v1alpha1.TunnelVXLAN && always(t.vxlan)
		if !wanted[kind] && !forced || t.switchedOff(kind) || !n.hasFamily(kind != v1alpha1.TunnelVXLANv6) {
			continue
		}
		tunnel := v1alpha1.Tunnel{Kind: kind, Pools: c.tunnelPools(n, kind)}
		switch kind {
		case v1alpha1.TunnelIPIP:
			tunnel.MTU = int32(t.ipipMTU)
		case v1alpha1.TunnelVXLAN:
			tunnel.MTU, tunnel.VNI, tunnel.Port = int32(t.vxlanMTU), int32(t.vni), port
		default:
			tunnel.MTU, tunnel.VNI, tunnel.Port = int32(t.vxlanV6), int32(t.vni), port
		}
		out = append(out, tunnel)
	}
	return out
}

// hasFamily tells whether the node has an address of a family.
func (n *node) hasFamily(is4 bool) bool {
	return slices.ContainsFunc(parseAddresses(n.addresses), func(a netip.Addr) bool { return a.Is4() == is4 })
}

// tunnelPools are the pools from which a node's end of a tunnel may get its address: those of the kind that are for tunnels alone;
// where there are none, those whose allowedUses have Tunnel beside Workload, else those that serve pods.
func (c *Cluster) tunnelPools(n *node, kind v1alpha1.TunnelKind) []string {
	var alone, both, others []netip.Prefix
	for _, p := range c.pools {
		if p.disabled || p.tunnelKind() != kind || p.nodes == nil || !p.nodes.Match(selector.Map(n.labels)) {
			continue
		}
		switch {
		case p.forTunnels && !p.forPods:
			alone = append(alone, p.cidr)
		case !p.forPods || p.manual: // of such a pool the node has a block only by chance
		case p.forTunnels:
			both = append(both, p.cidr)
		default:
			others = append(others, p.cidr)
		}
	}
	var out []string
	for _, cidrs := range [][]netip.Prefix{alone, both, others} {
		slices.SortFunc(cidrs, comparePrefixes)
		for _, cidr := range slices.Compact(cidrs) {
			out = append(out, cidr.String())
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

// externalNodes are the addresses and CIDRs of a list, in order and each once. What can't be read lets nobody in.
func externalNodes(list []string) []string {
	var nets []netip.Prefix
	for _, text := range list {
		text = strings.TrimSpace(text)
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			nets = append(nets, netip.PrefixFrom(addr, addr.BitLen()))
		} else if cidr, err := netip.ParsePrefix(text); err == nil {
			nets = append(nets, cidr.Masked())
		}
	}
	slices.SortFunc(nets, comparePrefixes)
	var out []string
	for _, cidr := range slices.Compact(nets) {
		out = append(out, cidr.String())
	}
	return out
}

// subnets of a node's addresses: as its annotations say, else as its agent found them.
func (n *node) subnets() []string {
	var out []string
	for _, text := range n.addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		found := n.annotated
		if n.state != nil {
			found = append(slices.Clone(found), n.state.Status.NodeAddresses...)
		}
		for _, text := range found {
			if p, err := netip.ParsePrefix(text); err == nil && p.Addr() == addr {
				out = append(out, p.Masked().String())
				break
			}
		}
	}
	return out
}

// tunnelEnds are the node's ends of tunnels, as its agent says.
func (n *node) tunnelEnds() []v1alpha1.TunnelEnd {
	if n.state == nil {
		return nil
	}
	return n.state.Status.Tunnels
}
