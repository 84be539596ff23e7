package render

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/selector"
)

// pool is an address pool.
type pool struct {
	poolSpec
	nodes, namespaces *selector.Selector
}

// poolSpec is what a pool says, in a form that can be compared.
type poolSpec struct {
	cidr netip.Prefix
	nat  bool
	// ipip, vxlan: packets between nodes are encapsulated so. unexported: disableBGPExport.
	// crossSubnet: only between subnets.
	ipip, vxlan, crossSubnet, unexported bool
	// disabled: no new addresses. manual: addresses only for pods that name the pool. forPods, forTunnels: allowedUses has Workload,
	// Tunnel.
	disabled, manual, forPods, forTunnels bool
	nodeSelector                          string
	namespaceSelector                     string
}

// setPool takes in a pool. One whose selectors can't be read serves nobody unasked; its condition says why.
func (c *Cluster) setPool(o *v3.IPPool) {
	cidr, err := netip.ParsePrefix(o.Spec.CIDR)
	if err != nil {
		c.deletePool(o.Name)
		return
	}
	p := pool{poolSpec: poolSpec{
		cidr: cidr.Masked(), nat: o.Spec.NATOutgoing, disabled: o.Spec.Disabled,
		ipip: encapsulates(o.Spec.IPIPMode), vxlan: encapsulates(o.Spec.VXLANMode), unexported: o.Spec.DisableBGPExport,
		crossSubnet:  o.Spec.VXLANMode == v3.EncapCrossSubnet || o.Spec.IPIPMode == v3.EncapCrossSubnet,
		forTunnels:   len(o.Spec.AllowedUses) == 0 || slices.Contains(o.Spec.AllowedUses, v3.IPPoolAllowedUseTunnel),
		manual:       o.Spec.AssignmentMode == v3.AssignmentManual,
		forPods:      len(o.Spec.AllowedUses) == 0 || slices.Contains(o.Spec.AllowedUses, v3.IPPoolAllowedUseWorkload),
		nodeSelector: o.Spec.NodeSelector, namespaceSelector: o.Spec.NamespaceSelector,
	}}
	if before, ok := c.pools[o.Name]; ok && before.poolSpec == p.poolSpec {
		return
	}
	if p.nodes, err = selector.Parse(p.nodeSelector); err == nil {
		p.namespaces, err = selector.Parse(p.namespaceSelector)
	}
	if err != nil {
		p.nodes = nil
	}
	c.pools[o.Name] = p
	c.touchNodeStates()
	c.touchFloating()
}

func (c *Cluster) deletePool(name string) {
	if _, ok := c.pools[name]; ok {
		delete(c.pools, name)
		c.touchNodeStates()
		c.touchFloating()
	}
}

// serves tells whether pods of the namespace on the node get addresses from the pool unasked.
func (p *pool) serves(n *node, ns *namespace) bool {
	return !p.disabled && !p.manual && p.forPods && p.nodes != nil &&
		p.nodes.Match(selector.Map(n.labels)) && p.namespaces.Match(namespaceLabels{ns})
}

// poolsTell tells whether some pool is for pods of one of two namespaces and not of the other.
func (c *Cluster) poolsTell(a, b *namespace) bool {
	for _, p := range c.pools {
		if p.namespaces != nil && p.namespaces.Match(namespaceLabels{a}) != p.namespaces.Match(namespaceLabels{b}) {
			return true
		}
	}
	return false
}

// anyNamespaced tells whether one of some pools is for pods of some namespaces only.
func (c *Cluster) anyNamespaced(cidrs []netip.Prefix) bool {
	for _, p := range c.pools {
		if p.namespaces != nil && !p.namespaces.IsAll() && slices.Contains(cidrs, p.cidr) {
			return true
		}
	}
	return false
}

// namespaceLabels are the labels of a namespace as selectors see them.
type namespaceLabels struct{ of *namespace }

// Get returns the value of a label and whether it is there.
func (l namespaceLabels) Get(key string) (string, bool) {
	if key == policy.LabelName {
		return l.of.name, true
	}
	value, ok := l.of.labels()[key]
	return value, ok
}

// poolNamed is the pool of that name or with that CIDR; nil: there is none.
func (c *Cluster) poolNamed(name string) *pool {
	if p, ok := c.pools[name]; ok {
		return &p
	}
	cidr, err := netip.ParsePrefix(name)
	if err != nil {
		return nil
	}
	for _, p := range c.pools {
		if p.cidr == cidr.Masked() {
			return &p
		}
	}
	return nil
}

// poolAt is the smallest pool that holds an address, and its name; nil: there is none.
func (c *Cluster) poolAt(addr netip.Addr) (string, *pool) {
	var best *pool
	var bestName string
	for name, p := range c.pools {
		if !p.cidr.Contains(addr) {
			continue
		}
		if best == nil || p.cidr.Bits() > best.cidr.Bits() || p.cidr == best.cidr && name < bestName {
			best, bestName = &p, name
		}
	}
	return bestName, best
}

// setReservation takes in the CIDRs of an IPReservation; none when it is gone. What can't be read reserves nothing.
func (c *Cluster) setReservation(name string, cidrs []string) {
	var next []netip.Prefix
	for _, text := range cidrs {
		if addr, err := netip.ParseAddr(text); err == nil {
			next = append(next, netip.PrefixFrom(addr, addr.BitLen()))
		} else if cidr, err := netip.ParsePrefix(text); err == nil {
			next = append(next, cidr.Masked())
		}
	}
	if slices.Equal(c.reservations[name], next) {
		return
	}
	if next == nil {
		delete(c.reservations, name)
	} else {
		c.reservations[name] = next
	}
	c.touchNodeStates()
}

// reservedIn are the reserved parts of a block, in order and none within another.
func (c *Cluster) reservedIn(block netip.Prefix) []string {
	var found []netip.Prefix
	for _, cidrs := range c.reservations {
		for _, cidr := range cidrs {
			switch {
			case !cidr.Overlaps(block):
			case cidr.Bits() <= block.Bits():
				return []string{block.String()}
			default:
				found = append(found, cidr)
			}
		}
	}
	found = append(found, c.floatingIn(block)...)
	slices.SortFunc(found, netip.Prefix.Compare)
	var out []string
	last := netip.Prefix{}
	for _, cidr := range found { // what contains others comes before them
		if !last.IsValid() || !last.Overlaps(cidr) {
			out, last = append(out, cidr.String()), cidr
		}
	}
	return out
}

// setCooldown takes in how long an address is not used again after it was given back, seconds.
func (c *Cluster) setCooldown(spec *v3.IPAMConfigurationSpec) {
	seconds := int32(0)
	if spec != nil && spec.IPCooldownSeconds != nil {
		seconds = *spec.IPCooldownSeconds
	}
	if c.cooldown != seconds {
		c.cooldown = seconds
		c.touchNodeStates()
	}
}

// touchNodeStates notes a change that every node has to know.
func (c *Cluster) touchNodeStates() {
	for name := range c.nodes {
		c.touch(KindNodeState, name)
	}
}

func encapsulates(mode v3.EncapMode) bool { return mode != "" && mode != v3.EncapNever }

// notForPods says why pods get no new addresses from the pool; "" when they do.
func (p *pool) notForPods() string {
	switch {
	case p.disabled:
		return "is disabled"
	case !p.forPods:
		return "has allowedUses without Workload"
	}
	return ""
}

// renderPools are all pools, in order of their CIDRs. Should two pools have one CIDR, it is masqueraded, or kept out of BGP, if either
// says so.
func (c *Cluster) renderPools() []v1alpha1.Pool {
	type named struct {
		pool
		name string
	}
	all := make([]named, 0, len(c.pools))
	for name, p := range c.pools {
		all = append(all, named{p, name})
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(comparePrefixes(a.cidr, b.cidr), cmp.Compare(a.name, b.name))
	})
	var out []v1alpha1.Pool
	for i, p := range all {
		if i > 0 && all[i-1].cidr == p.cidr {
			last := &out[len(out)-1]
			last.Names = append(last.Names, p.name)
			if p.notForPods() == "" {
				last.NotForPods = ""
			}
			last.NATOutgoing = last.NATOutgoing || p.nat
			last.DisableBGPExport = last.DisableBGPExport || p.unexported
			last.RoutesByBGP = last.RoutesByBGP && c.routes.RoutesByBGP(p.ipip, p.vxlan)
			continue
		}
		out = append(out, v1alpha1.Pool{
			CIDR: p.cidr.String(), Names: []string{p.name}, NotForPods: p.notForPods(), NATOutgoing: p.nat,
			DisableBGPExport: p.unexported, RoutesByBGP: c.routes.RoutesByBGP(p.ipip, p.vxlan),
		})
	}
	return out
}

// poolOf is the CIDR of the smallest pool that holds a block. When its pool is gone the block is a pool of its own, so that
// the node keeps the addresses that are in use.
func (c *Cluster) poolOf(block netip.Prefix) string {
	if cidr, ok := c.poolHolding(block); ok {
		return cidr.String()
	}
	return block.String()
}

// poolHolding is the CIDR of the smallest pool that holds a block.
func (c *Cluster) poolHolding(block netip.Prefix) (netip.Prefix, bool) {
	var best netip.Prefix
	for _, p := range c.pools {
		if p.cidr.Bits() <= block.Bits() && p.cidr.Contains(block.Addr()) && (!best.IsValid() || p.cidr.Bits() > best.Bits()) {
			best = p.cidr
		}
	}
	return best, best.IsValid()
}
