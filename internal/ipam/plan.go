package ipam

import "net/netip"

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

func (p *planner) reportShortages() {
	for _, n := range p.nodes {
		for _, d := range n.demands {
			if missing := n.missing(d); missing > 0 {
				p.plan.Short = append(p.plan.Short, p.shortage(n, d, int(missing)))
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
