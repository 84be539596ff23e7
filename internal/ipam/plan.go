package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/internal/selector"
)

// DefaultMaxBlocks is how many blocks of a family a node may lease when nothing else is configured.
const DefaultMaxBlocks = 20

// minFree is how many free addresses of a family a node has at least before it leases a further block.
const minFree = 8

// Input is all that a plan follows from. The order of its lists does not matter.
type Input struct {
	Pools []Pool
	Nodes []Node
	// Leases that exist.
	Leases []Lease
	// Reserved CIDRs are not given out by themselves and count as no capacity.
	Reserved []netip.Prefix
	// MaxBlocks that a node may lease of each family; 0: DefaultMaxBlocks.
	MaxBlocks int
}

// Pool is an address pool. Pools must not overlap.
type Pool struct {
	// CIDR, canonical.
	CIDR netip.Prefix
	// BlockBits is the prefix length of the pool's blocks, as BlockBits gives it.
	BlockBits int
	// Disabled: no new leases.
	Disabled bool
	// Manual: only for endpoints that ask for the pool.
	Manual bool
	// Namespaced: only for endpoints of some namespaces, so that a node leases it when an endpoint asks.
	Namespaced bool
	// TunnelsOnly: only for the nodes' ends of tunnels, of which one block holds enough.
	TunnelsOnly bool
	// Nodes that may use the pool. Nil: all.
	Nodes *selector.Selector
}

// Node is a node and how many addresses its endpoints need.
type Node struct {
	Name   string
	Labels map[string]string
	// Endpoints4 and Endpoints6 are the numbers of endpoints that need an address of the family from whatever pool. One
	// that holds an address of a pool that the node may not use any more needs none.
	Endpoints4, Endpoints6 int
	// Asked are the endpoints that get their address from certain pools only; they are not in Endpoints4 or Endpoints6.
	Asked []Ask
	// Fixed are addresses that endpoints ask for by name: the node is to have the blocks in which they lie.
	Fixed []netip.Addr
}

// Ask is a number of endpoints that can take an address from any of some pools, whatever the pools' node selectors say.
type Ask struct {
	// Pools are CIDRs of one family.
	Pools     []netip.Prefix
	Endpoints int
}

// Lease says that a node may give out the addresses of a block.
type Lease struct {
	// Block and Pool are CIDRs, canonical.
	Block, Pool netip.Prefix
	Node        string
}

// Plan is what to do about leases. The lease itself is made safe by creating an object with the block's name, so
// planners that saw different clusters can at worst lose an attempt.
type Plan struct {
	// Lease: new leases, the most urgent first: each node's first block of each pool, then what endpoints need, then
	// what is leased ahead of need.
	Lease []Lease
	// Release: leases of nodes that are gone, in order of block.
	Release []Lease
	// Short: needs that cannot be met, in order of node.
	Short []Shortage
}

// Reason says why a need cannot be met.
type Reason string

// The reasons of shortages.
const (
	// NoPool: there is no enabled pool that the node may use.
	NoPool Reason = "NoPool"
	// PoolsFull: all blocks of the pools are leased.
	PoolsFull Reason = "PoolsFull"
	// BlockLimit: the node has leased as many blocks as it may.
	BlockLimit Reason = "BlockLimit"
)

// Shortage is a number of endpoints of a node for which its blocks have no address.
type Shortage struct {
	Node string
	// Pools that were tried, in order of CIDR.
	Pools []netip.Prefix
	// Missing is the number of addresses.
	Missing int
	Reason  Reason
}

// MakePlan decides which nodes lease further blocks and which leases are given back.
//
// A node leases its first block of every automatic pool that it may use, and of every pool for tunnels, at once, whether it has endpoints or not, so that
// its first pod does not wait. It leases a further one when fewer than minFree addresses, or fewer than a quarter of a block,
// are free. Nodes take turns, one block each, and needs come before what is ahead of need, so that one node cannot empty a pool
// before another has what it needs.
func MakePlan(in Input) Plan {
	p := newPlanner(in)
	for _, n := range p.nodes {
		p.namedBlocks(n)
	}
	for _, n := range p.nodes {
		p.firstBlocks(n)
	}
	p.takeTurns(func(demand) uint64 { return 0 })
	p.reportShortages()
	p.takeTurns(demand.margin)
	return p.plan
}

// planner is the state of one MakePlan.
type planner struct {
	plan      Plan
	space     *space
	pools     []Pool
	nodes     []*nodeState
	maxBlocks int
}

// nodeState is a node and what it has leased so far.
type nodeState struct {
	Node
	demands []demand
	// capacity of its leases, by pool.
	capacity map[netip.Prefix]uint64
	// blocks is the number of its leases, IPv4 and IPv6.
	blocks [2]int
}

// demand is a number of endpoints that can take their addresses from any of some pools.
type demand struct {
	family int
	// endpoints that need an address, those among them that ask for just these pools in own.
	endpoints, own uint64
	// pools are enabled, and the node may use them.
	pools []Pool
}

func newPlanner(in Input) *planner {
	p := &planner{
		space:     newSpace(in),
		pools:     slices.SortedFunc(slices.Values(in.Pools), func(a, b Pool) int { return a.CIDR.Compare(b.CIDR) }),
		maxBlocks: in.MaxBlocks,
	}
	if p.maxBlocks <= 0 {
		p.maxBlocks = DefaultMaxBlocks
	}
	byName := make(map[string]*nodeState, len(in.Nodes))
	for _, node := range in.Nodes {
		n := &nodeState{Node: node, capacity: map[netip.Prefix]uint64{}}
		n.demands = p.demands(node)
		byName[node.Name] = n
		p.nodes = append(p.nodes, n)
	}
	slices.SortFunc(p.nodes, func(a, b *nodeState) int { return strings.Compare(a.Name, b.Name) })
	for _, lease := range in.Leases {
		if n, ok := byName[lease.Node]; ok {
			n.add(lease, p.space.capacity(lease.Block))
		} else {
			p.plan.Release = append(p.plan.Release, lease)
		}
	}
	slices.SortFunc(p.plan.Release, func(a, b Lease) int {
		return cmp.Or(a.Block.Compare(b.Block), strings.Compare(a.Node, b.Node))
	})
	return p
}

func (n *nodeState) add(lease Lease, capacity uint64) {
	n.capacity[lease.Pool] += capacity
	n.blocks[family(lease.Block)]++
}

func family(cidr netip.Prefix) int {
	if cidr.Addr().Is4() {
		return 0
	}
	return 1
}

// demands of a node: one for each family, then one for each list of pools that is asked for. Who asks for some of a
// demand's pools takes from its capacity too.
func (p *planner) demands(n Node) []demand {
	demands := []demand{{family: 0, endpoints: count(n.Endpoints4)}, {family: 1, endpoints: count(n.Endpoints6)}}
	for _, pool := range p.pools {
		if f := family(pool.CIDR); pool.mayServe(n) {
			demands[f].pools = append(demands[f].pools, pool)
		}
	}
	var asked []demand
	for _, ask := range n.Asked {
		if ask.Endpoints <= 0 || len(ask.Pools) == 0 {
			continue
		}
		d := demand{family: family(ask.Pools[0])}
		for _, pool := range p.pools {
			if slices.Contains(ask.Pools, pool.CIDR) && !pool.Disabled {
				d.pools = append(d.pools, pool)
			}
		}
		at := slices.IndexFunc(asked, func(o demand) bool { return o.family == d.family && slices.EqualFunc(o.pools, d.pools, samePool) })
		if at < 0 {
			at, asked = len(asked), append(asked, d)
		}
		asked[at].own += count(ask.Endpoints)
	}
	slices.SortFunc(asked, func(a, b demand) int {
		return cmp.Or(cmp.Compare(a.family, b.family), slices.CompareFunc(a.pools, b.pools, func(a, b Pool) int { return a.CIDR.Compare(b.CIDR) }))
	})
	demands = append(demands, asked...)
	for i := range demands {
		for _, ask := range asked {
			if len(ask.pools) > 0 && ask.family == demands[i].family && demands[i].holds(ask.pools) || i >= 2 && len(demands[i].pools)+len(ask.pools) == 0 && ask.family == demands[i].family {
				demands[i].endpoints += ask.own
			}
		}
	}
	return demands
}

func samePool(a, b Pool) bool { return a.CIDR == b.CIDR }

// holds tells whether all of some pools are among the demand's.
func (d demand) holds(pools []Pool) bool {
	for _, pool := range pools {
		if !slices.ContainsFunc(d.pools, func(o Pool) bool { return samePool(o, pool) }) {
			return false
		}
	}
	return true
}

func count(n int) uint64 { return uint64(max(n, 0)) }

// mayServe tells whether a node may lease blocks of the pool without being asked.
func (p Pool) mayServe(n Node) bool {
	return !p.Disabled && !p.Manual && !p.Namespaced && !p.TunnelsOnly && (p.Nodes == nil || p.Nodes.Match(selector.Map(n.Labels)))
}

// namedBlocks leases the blocks of addresses that endpoints ask for by name, if nobody has them.
func (p *planner) namedBlocks(n *nodeState) {
	for _, addr := range slices.SortedFunc(slices.Values(n.Fixed), netip.Addr.Compare) {
		for _, pool := range p.pools {
			block, inside := BlockOf(pool.CIDR, pool.BlockBits, addr)
			if !inside || pool.Disabled || n.blocks[family(block)] >= p.maxBlocks || !p.space.takeNamed(block) {
				continue
			}
			lease := Lease{Block: block, Pool: pool.CIDR, Node: n.Name}
			n.add(lease, p.space.capacity(block))
			p.plan.Lease = append(p.plan.Lease, lease)
		}
	}
}

// firstBlocks leases one block of each automatic pool, and of each pool for tunnels, of which the node has none.
func (p *planner) firstBlocks(n *nodeState) {
	for _, pool := range p.pools {
		if _, has := n.capacity[pool.CIDR]; !has && pool.TunnelsOnly && !pool.Disabled && (pool.Nodes == nil || pool.Nodes.Match(selector.Map(n.Labels))) {
			p.lease(n, family(pool.CIDR), []Pool{pool})
		}
	}
	for f := range n.blocks {
		for _, pool := range n.demands[f].pools {
			if _, has := n.capacity[pool.CIDR]; !has {
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
				if d.endpoints+margin(d) > n.capacityFor(d) && p.lease(n, d.family, d.pools) {
					busy = true
				}
			}
		}
	}
}

// margin is how many addresses are to be free, so that blocks are leased ahead of need.
func (d demand) margin() uint64 {
	margin := uint64(minFree)
	for _, pool := range d.pools {
		margin = max(margin, power(pool.CIDR.Addr().BitLen()-pool.BlockBits)/4)
	}
	return margin
}

func (n *nodeState) capacityFor(d demand) uint64 {
	var sum uint64
	for _, pool := range d.pools {
		sum += n.capacity[pool.CIDR]
	}
	return sum
}

// lease plans a block of the first of pools that has one left, and tells whether there was one.
func (p *planner) lease(n *nodeState, family int, pools []Pool) bool {
	if n.blocks[family] >= p.maxBlocks {
		return false
	}
	for _, pool := range pools {
		if block, ok := p.space.take(pool, n.Name); ok {
			lease := Lease{Block: block, Pool: pool.CIDR, Node: n.Name}
			n.add(lease, p.space.capacity(block))
			p.plan.Lease = append(p.plan.Lease, lease)
			return true
		}
	}
	return false
}

func (p *planner) reportShortages() {
	for _, n := range p.nodes {
		for _, d := range n.demands {
			if capacity := n.capacityFor(d); d.endpoints > capacity {
				p.plan.Short = append(p.plan.Short, p.shortage(n, d, int(d.endpoints-capacity)))
			}
		}
	}
}

func (p *planner) shortage(n *nodeState, d demand, missing int) Shortage {
	s := Shortage{Node: n.Name, Missing: missing}
	for _, pool := range d.pools {
		s.Pools = append(s.Pools, pool.CIDR)
	}
	switch {
	case len(s.Pools) == 0:
		s.Reason = NoPool
	case n.blocks[d.family] >= p.maxBlocks:
		s.Reason = BlockLimit
	default:
		s.Reason = PoolsFull
	}
	return s
}
