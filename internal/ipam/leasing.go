package ipam

import (
	"net/netip"
	"slices"
)

// namedBlocks leases the blocks of addresses that endpoints ask for by name, if nobody has them; if somebody has, the
// addresses alone.
func (p *planner) namedBlocks(n *nodeState) {
	for _, addr := range slices.SortedFunc(slices.Values(n.Fixed), netip.Addr.Compare) {
		pool, ok := p.poolWith(addr)
		if !ok || pool.Disabled || n.used[addr] {
			continue
		}
		if i := slices.IndexFunc(n.leases, func(h *held) bool { return h.Block.Contains(addr) }); i >= 0 {
			p.restore(n.leases[i])
			continue
		}
		block, _ := BlockOf(pool.CIDR, pool.BlockBits, addr)
		if p.frozen || n.blocks[family(block)] >= p.maxBlocks || !p.space.takeNamed(block) {
			p.borrowNamed(n, addr)
			continue
		}
		p.add(n, pool, block)
	}
}

// firstBlocks leases one block of each automatic pool, and of each pool for tunnels, of which the node has none.
func (p *planner) firstBlocks(n *nodeState) {
	for _, pool := range p.pools {
		if pool.servesTunnels(n.Node) && n.blocksOf(pool.CIDR) == 0 {
			p.lease(n, family(pool.CIDR), []Pool{pool})
		}
	}
	for f := range n.blocks {
		for _, pool := range n.demands[f].pools {
			if n.blocksOf(pool.CIDR) == 0 {
				p.lease(n, f, []Pool{pool})
			}
		}
	}
}

// takeTurns leases blocks until every node has margin free addresses for each demand, or can get no more.
func (p *planner) takeTurns(margin func(demand) uint64) {
	for busy := true; busy; {
		busy = false
		for _, n := range p.nodes {
			for _, d := range n.demands {
				if n.endpoints(d)+margin(d) > n.capacityFor(d) && p.lease(n, d.family, d.pools) {
					busy = true
				}
			}
		}
	}
}

// lease plans a block of the first of pools that has one left, and tells whether there was one. A block of the node's own
// that is withdrawn comes first.
func (p *planner) lease(n *nodeState, family int, pools []Pool) bool {
	pools = slices.DeleteFunc(slices.Clone(pools), func(pool Pool) bool { return p.contested[pool.CIDR] })
	for _, pool := range pools {
		for _, h := range n.leases {
			if h.Pool == pool.CIDR && h.withdrawn && h.free > 0 && !h.claimed {
				p.restore(h)
				return true
			}
		}
	}
	if p.frozen || n.blocks[family] >= p.maxBlocks {
		return false
	}
	for _, pool := range pools {
		if block, ok := p.space.take(pool, n.Name); ok {
			p.add(n, pool, block)
			return true
		}
	}
	return false
}

// add plans a new lease.
func (p *planner) add(n *nodeState, pool Pool, block netip.Prefix) {
	lease := Lease{Block: block, Pool: pool.CIDR, Node: n.Name}
	h := p.hold(n, lease, nil, false)
	h.fresh = true
	n.add(h)
	p.plan.Lease = append(p.plan.Lease, lease)
}
