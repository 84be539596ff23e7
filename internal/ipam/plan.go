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
	// Withdrawn are those of the leases whose block is on its way back.
	Withdrawn map[netip.Prefix]bool
	// Loans of single addresses, by block.
	Loans map[netip.Prefix][]Loan
	// Kept are nodes that are gone while their pods are still there: what they have stays theirs.
	Kept map[string]bool
	// Reserved CIDRs are not given out by themselves and count as no capacity.
	Reserved []netip.Prefix
	// MaxBlocks that a node may lease of each family; 0: DefaultMaxBlocks.
	MaxBlocks int
	// Frozen: no block is leased to anybody.
	Frozen bool
	// Strict: no single addresses are handed over.
	Strict bool
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
	// Endpoints4 and Endpoints6 are the numbers of endpoints that need an address of the family from whatever pool, and have
	// none yet.
	Endpoints4, Endpoints6 int
	// Asked are the endpoints that get their address from certain pools only; they are not in Endpoints4 or Endpoints6.
	Asked []Ask
	// Fixed are addresses that endpoints ask for by name, whether they have them or not: the node is to have the blocks in which
	// they lie, or the addresses.
	Fixed []netip.Addr
	// Used are the addresses that the node has given to pods, as far as it has said so.
	Used []netip.Addr
	// Reports: the node can be reached, and Used is its word. Nothing is taken from a node that does not answer.
	Reports bool
}

// Ask is a number of endpoints that can take an address from any of some pools, whatever the pools' node selectors say.
type Ask struct {
	// Pools are CIDRs of one family.
	Pools []netip.Prefix
	// Endpoints that have no address yet; 0 keeps the pools in the node's reach.
	Endpoints int
}

// Lease says that a node may give out the addresses of a block.
type Lease struct {
	// Block and Pool are CIDRs, canonical.
	Block, Pool netip.Prefix
	Node        string
}

// Plan is what to do about leases. The lease itself is made safe by creating an object with the block's name, and a change by
// comparing the object's version, so planners that saw different clusters can at worst lose an attempt.
type Plan struct {
	// Lease: new leases, the most urgent first: each node's first block of each pool, then what endpoints need, then
	// what is leased ahead of need.
	Lease []Lease
	// Release: leases of nodes that are gone, in order of block.
	Release []Lease
	// TakeOver: blocks of nodes that are gone of which other nodes have single addresses: each goes to one of these.
	TakeOver []Lease
	// Withdraw: blocks of living nodes that are to go back; Restore: those that are withdrawn and are needed after all.
	Withdraw, Restore []Lease
	// Loans: changes of loans.
	Loans []LoanStep
	// Short: needs that cannot be met, in order of node.
	Short []Shortage
}

// LoanStep puts one address of a block into a state: of a new loan, or of one that there is. State "" ends the loan.
type LoanStep struct {
	Block   netip.Prefix
	Address netip.Addr
	// Node that borrows.
	Node  string
	State LoanState
}

// Reason says why a need cannot be met.
type Reason string

// The reasons of shortages.
const (
	// NoPool: there is no enabled pool that the node may use.
	NoPool Reason = "NoPool"
	// PoolsFull: all blocks of the pools are leased, and no node can spare a single address of them.
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

// MakePlan decides which nodes lease further blocks, which leases are given back, and which single addresses go to other nodes.
//
// A node leases its first block of every automatic pool that it may use, and of every pool for tunnels, at once, whether it has endpoints or not, so that
// its first pod does not wait. It leases a further one when fewer than minFree addresses, or fewer than a quarter of a block,
// are free. Nodes take turns, one block each, and needs come before what is ahead of need, so that one node cannot empty a pool
// before another has what it needs. When no block is left, what others do not need goes to those who lack it: first blocks of which
// nothing is in use, then single addresses. What a node does not need any more goes back; it has twice as much in reserve then as
// makes it lease, so that nothing goes to and fro. Once all is carried out, the next plan is empty.
func MakePlan(in Input) Plan {
	p := newPlanner(in)
	for _, n := range p.nodes {
		p.withdrawUnwanted(n)
		p.namedBlocks(n)
	}
	for _, n := range p.nodes {
		p.firstBlocks(n)
	}
	p.takeTurns(func(demand) uint64 { return 0 })
	p.share()
	p.reportShortages()
	p.takeTurns(demand.margin)
	for _, n := range p.nodes {
		p.withdrawSurplus(n)
		p.returnLoans(n)
	}
	return p.plan
}

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
		if ask.Endpoints < 0 || len(ask.Pools) == 0 {
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
	return !p.Manual && !p.Namespaced && !p.TunnelsOnly && p.admits(n)
}

// servesTunnels tells whether the node's ends of tunnels may get addresses from the pool, and pods may not.
func (p Pool) servesTunnels(n Node) bool { return p.TunnelsOnly && p.admits(n) }

func (p Pool) admits(n Node) bool {
	return !p.Disabled && (p.Nodes == nil || p.Nodes.Match(selector.Map(n.Labels)))
}

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

func (p *planner) poolWith(addr netip.Addr) (Pool, bool) {
	i := slices.IndexFunc(p.pools, func(pool Pool) bool { return pool.CIDR.Contains(addr) })
	if i < 0 {
		return Pool{}, false
	}
	return p.pools[i], true
}

// add plans a new lease.
func (p *planner) add(n *nodeState, pool Pool, block netip.Prefix) {
	lease := Lease{Block: block, Pool: pool.CIDR, Node: n.Name}
	h := p.hold(n, lease, nil, false)
	h.fresh = true
	n.add(h)
	p.plan.Lease = append(p.plan.Lease, lease)
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
	case p.limited(n, d.family):
		s.Reason = BlockLimit
	default:
		s.Reason = PoolsFull
	}
	return s
}
