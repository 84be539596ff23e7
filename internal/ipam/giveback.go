package ipam

import (
	"net/netip"
	"slices"
)

// withdrawUnwanted withdraws the blocks of pools from which no endpoint of the node can get an address any more: those that
// are gone or disabled, that do not serve the node, and that no endpoint asks for.
func (p *planner) withdrawUnwanted(n *nodeState) {
	for _, h := range n.leases {
		if !h.withdrawn && !p.wants(n, h) {
			p.withdraw(h)
		}
	}
}

func (p *planner) wants(n *nodeState, h *held) bool {
	i := slices.IndexFunc(p.pools, func(pool Pool) bool { return pool.CIDR == h.Pool })
	if i < 0 || p.pools[i].Disabled {
		return false
	}
	return p.pools[i].mayServe(n.Node) || p.pools[i].servesTunnels(n.Node) || n.names(h) ||
		slices.ContainsFunc(n.Asked, func(a Ask) bool { return slices.Contains(a.Pools, h.Pool) })
}

// names tells whether an endpoint asks by name for an address of the block.
func (n *nodeState) names(h *held) bool { return slices.ContainsFunc(n.Fixed, h.Block.Contains) }

// withdraw plans that a block goes back.
func (p *planner) withdraw(h *held) {
	h.withdrawn = true
	h.owner.capacity[h.Pool] -= h.free
	p.plan.Withdraw = append(p.plan.Withdraw, h.Lease)
}

// restore plans that a withdrawn block stays.
func (p *planner) restore(h *held) {
	if !h.withdrawn {
		return
	}
	h.withdrawn = false
	h.owner.capacity[h.Pool] += h.free
	p.plan.Restore = append(p.plan.Restore, h.Lease)
}

// withdrawSurplus withdraws blocks without which the node has plenty: the highest first, as addresses are taken from the lowest.
func (p *planner) withdrawSurplus(n *nodeState) {
	for _, h := range slices.Backward(n.leases) {
		if p.canMiss(h, func(d demand) uint64 { return 2 * d.margin() }) {
			p.withdraw(h)
		}
	}
}

// canMiss tells whether a node can do without a block, and still have a margin. It keeps one block of each pool that serves it.
func (p *planner) canMiss(h *held, margin func(demand) uint64) bool {
	n := h.owner
	if h.withdrawn || h.fresh || !h.empty || !n.Reports || n.names(h) {
		return false
	}
	for _, pool := range p.pools {
		if pool.CIDR == h.Pool && (pool.mayServe(n.Node) || pool.servesTunnels(n.Node)) && n.blocksOf(h.Pool) < 2 {
			return false
		}
	}
	for _, d := range n.demands {
		if d.has(h.Pool) && n.endpoints(d)+margin(d)+h.free > n.capacityFor(d) {
			return false
		}
	}
	return true
}

func (d demand) has(pool netip.Prefix) bool {
	return slices.ContainsFunc(d.pools, func(p Pool) bool { return p.CIDR == pool })
}

// limited tells whether a node may lease no further block of a family.
func (p *planner) limited(n *nodeState, family int) bool {
	return n.blocks[family] >= p.maxBlocks
}

// share gives nodes that lack addresses what others can do without.
func (p *planner) share() {
	for _, n := range p.nodes {
		for _, d := range n.demands {
			missing := n.missing(d)
			if missing == 0 {
				continue
			}
			for _, pool := range d.pools {
				p.contested[pool.CIDR] = true
			}
			missing -= p.claim(n, d, missing)
			p.borrow(n, d, missing)
		}
	}
}

func (n *nodeState) missing(d demand) uint64 {
	need := n.endpoints(d)
	return need - min(need, n.capacityFor(d))
}

// claim sees to it that blocks of which nothing is in use become free for a node that needs as many addresses, and
// tells how many addresses they have, at most as many as are needed.
func (p *planner) claim(n *nodeState, d demand, missing uint64) uint64 {
	if p.frozen {
		return 0
	}
	got, blocks := uint64(0), n.blocks[d.family]
	for _, onTheWay := range []bool{true, false} {
		for _, other := range p.nodes {
			for _, h := range other.leases {
				if got >= missing || blocks >= p.maxBlocks {
					return min(got, missing)
				}
				if other == n || !other.Reports || h.claimed || !d.has(h.Pool) || !h.empty {
					continue
				}
				switch {
				case h.withdrawn != onTheWay:
					continue
				case !h.withdrawn && p.canMiss(h, func(demand) uint64 { return 0 }):
					p.withdraw(h)
				case !h.withdrawn:
					continue
				}
				h.claimed = true
				got, blocks = got+h.free, blocks+1
			}
		}
	}
	return min(got, missing)
}
