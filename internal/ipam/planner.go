package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// planner is the state of one MakePlan.
type planner struct {
	plan      Plan
	space     *space
	pools     []Pool
	nodes     []*nodeState
	byName    map[string]*nodeState
	maxBlocks int
	frozen    bool
	strict    bool
	// contested are pools of which some node lacks addresses: nobody leases ahead of need there.
	contested map[netip.Prefix]bool
}

// nodeState is a node and what it has leased so far.
type nodeState struct {
	Node
	demands []demand
	// leases, in order of block those that exist, then new ones.
	leases []*held
	// loans to the node.
	loans []*borrowed
	// used are the addresses of its pods; named those that endpoints ask for by name and do not have.
	used, named map[netip.Addr]bool
	// capacity is how many addresses are free in its leases and loans, by pool.
	capacity map[netip.Prefix]uint64
	// blocks is the number of its leases, IPv4 and IPv6.
	blocks [2]int
}

// held is a block that a node has.
type held struct {
	Lease
	owner     *nodeState
	withdrawn bool
	// fresh: it is leased by this plan.
	fresh bool
	// empty: none of its addresses is in use, here or on loan.
	empty bool
	// claimed: it is on its way to a node that lacks addresses.
	claimed bool
	// free addresses that are not reserved.
	free uint64
	// lent are the addresses on loan.
	lent map[netip.Addr]bool
}

func newPlanner(in Input) *planner {
	p := &planner{
		space:     newSpace(in),
		pools:     slices.SortedFunc(slices.Values(in.Pools), func(a, b Pool) int { return a.CIDR.Compare(b.CIDR) }),
		byName:    make(map[string]*nodeState, len(in.Nodes)),
		maxBlocks: in.MaxBlocks, frozen: in.Frozen, strict: in.Strict,
		contested: map[netip.Prefix]bool{},
	}
	if p.maxBlocks <= 0 {
		p.maxBlocks = DefaultMaxBlocks
	}
	for _, node := range in.Nodes {
		n := &nodeState{Node: node, capacity: map[netip.Prefix]uint64{}, used: make(map[netip.Addr]bool, len(node.Used)), named: map[netip.Addr]bool{}}
		n.demands = p.demands(node)
		for _, addr := range node.Used {
			n.used[addr] = true
		}
		for _, addr := range node.Fixed {
			if !n.used[addr] {
				n.named[addr] = true
			}
		}
		p.byName[node.Name] = n
		p.nodes = append(p.nodes, n)
	}
	slices.SortFunc(p.nodes, func(a, b *nodeState) int { return strings.Compare(a.Name, b.Name) })
	leases := slices.SortedFunc(slices.Values(in.Leases), func(a, b Lease) int {
		return cmp.Or(a.Block.Compare(b.Block), strings.Compare(a.Node, b.Node))
	})
	for _, lease := range leases {
		loans := p.outstanding(lease, in)
		if n, ok := p.byName[lease.Node]; ok {
			n.add(p.hold(n, lease, loans, in.Withdrawn[lease.Block]))
		} else if !in.Kept[lease.Node] {
			p.giveUp(lease, loans)
		}
	}
	return p
}

// hold is a block that a node has, as the node says it is used.
func (p *planner) hold(n *nodeState, lease Lease, loans []Loan, withdrawn bool) *held {
	h := &held{Lease: lease, owner: n, withdrawn: withdrawn, empty: len(loans) == 0, lent: map[netip.Addr]bool{}}
	taken := uint64(0)
	for _, loan := range loans {
		h.lent[loan.Address] = true
		if !p.space.isReserved(loan.Address) {
			taken++
		}
	}
	for addr := range n.used {
		if lease.Block.Contains(addr) && !h.lent[addr] {
			h.empty = false
			if !p.space.isReserved(addr) {
				taken++
			}
		}
	}
	for addr := range n.named {
		if lease.Block.Contains(addr) && !h.lent[addr] && !p.space.isReserved(addr) {
			taken++ // nobody else is to get it
		}
	}
	h.free = p.space.capacity(lease.Block)
	h.free -= min(h.free, taken)
	return h
}

// giveUp decides about a block of a node that is gone.
func (p *planner) giveUp(lease Lease, loans []Loan) {
	heirs := slices.DeleteFunc(slices.Clone(loans), func(l Loan) bool { return p.byName[l.Node] == nil })
	switch {
	case len(loans) == 0 || lease.Node == "":
		p.plan.Release = append(p.plan.Release, lease)
	case len(heirs) > 0:
		heir := slices.MinFunc(heirs, func(a, b Loan) int { return strings.Compare(a.Node, b.Node) })
		p.plan.TakeOver = append(p.plan.TakeOver, Lease{Block: lease.Block, Pool: lease.Pool, Node: heir.Node})
	}
}

func (n *nodeState) add(h *held) {
	n.leases = append(n.leases, h)
	n.blocks[family(h.Block)]++
	if !h.withdrawn {
		n.capacity[h.Pool] += h.free
	}
}

// blocksOf is how many blocks of a pool the node gives addresses from.
func (n *nodeState) blocksOf(pool netip.Prefix) int {
	count := 0
	for _, h := range n.leases {
		if h.Pool == pool && !h.withdrawn {
			count++
		}
	}
	return count
}

func (n *nodeState) capacityFor(d demand) uint64 {
	var sum uint64
	for _, pool := range d.pools {
		sum += n.capacity[pool.CIDR]
	}
	return sum
}

func (p *planner) poolWith(addr netip.Addr) (Pool, bool) {
	i := slices.IndexFunc(p.pools, func(pool Pool) bool { return pool.CIDR.Contains(addr) })
	if i < 0 {
		return Pool{}, false
	}
	return p.pools[i], true
}

func family(cidr netip.Prefix) int {
	if cidr.Addr().Is4() {
		return 0
	}
	return 1
}
