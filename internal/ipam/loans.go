package ipam

import (
	"math"
	"net/netip"
	"slices"
)

// borrowed is a loan to a node.
type borrowed struct {
	Loan
	pool netip.Prefix
	// block in which the address lies.
	block netip.Prefix
}

// outstanding are the loans of a block that go on, and plans the end of the others. What goes on and is not in use counts for
// the borrower.
func (p *planner) outstanding(lease Lease, in Input) []Loan {
	owner := p.byName[lease.Node]
	var kept []Loan
	for _, loan := range slices.SortedFunc(slices.Values(in.Loans[lease.Block]), func(a, b Loan) int { return a.Address.Compare(b.Address) }) {
		borrower := p.byName[loan.Node]
		lost := borrower == nil && !in.Kept[loan.Node] || loan.Node == lease.Node
		if loan.State == LoanAsked {
			// The owner has not agreed. One that uses the address, or does not answer, won't.
			lost = lost || owner == nil || !owner.Reports || owner.used[loan.Address]
		}
		if lost {
			p.plan.Loans = append(p.plan.Loans, LoanStep{Block: lease.Block, Address: loan.Address, Node: loan.Node})
			continue
		}
		kept = append(kept, loan)
		if borrower == nil {
			continue
		}
		borrower.loans = append(borrower.loans, &borrowed{Loan: loan, pool: lease.Pool, block: lease.Block})
		if loan.State != LoanRecalled && !borrower.used[loan.Address] && !borrower.named[loan.Address] && !p.space.isReserved(loan.Address) {
			borrower.capacity[lease.Pool]++
		}
	}
	return kept
}

// borrow has single addresses handed over to a node, as many as it lacks, while others can spare some.
func (p *planner) borrow(n *nodeState, d demand, missing uint64) {
	for _, loan := range n.loans {
		if missing > 0 && !p.strict && loan.State == LoanRecalled && d.has(loan.pool) && !n.used[loan.Address] && !n.named[loan.Address] && !p.space.isReserved(loan.Address) {
			p.step(loan, LoanGiven)
			n.capacity[loan.pool]++
			missing--
		}
	}
	if p.strict {
		return
	}
	for _, pool := range d.pools {
		for missing > 0 {
			from := p.lender(n, pool.CIDR)
			if from == nil {
				break
			}
			p.lend(from, p.spareAddress(from), n)
			missing--
		}
	}
}

// lender is the block of a pool from which an address is best taken: one that is withdrawn, or else one of the node that
// has most to spare. Nil: nobody has any.
func (p *planner) lender(n *nodeState, pool netip.Prefix) *held {
	var best *held
	most := uint64(0)
	for _, other := range p.nodes {
		if other == n || !other.Reports {
			continue
		}
		spare := other.spare(pool)
		for _, h := range other.leases {
			if h.Pool != pool || h.fresh || h.claimed || h.free == 0 {
				continue
			}
			can := spare
			if h.withdrawn {
				can = math.MaxUint64
			}
			if can > most {
				best, most = h, can
			}
		}
	}
	return best
}

// spare is how many free addresses of a pool a node does not need.
func (n *nodeState) spare(pool netip.Prefix) uint64 {
	spare := n.capacity[pool]
	for _, d := range n.demands {
		if d.has(pool) {
			free := n.capacityFor(d)
			spare = min(spare, free-min(free, n.endpoints(d)))
		}
	}
	return spare
}

// spareAddress is the highest free address of a block, as its node takes the lowest first.
func (p *planner) spareAddress(h *held) netip.Addr {
	for addr := Last(h.Block); h.Block.Contains(addr); addr = addr.Prev() {
		if !h.lent[addr] && !h.owner.used[addr] && !h.owner.named[addr] && !p.space.isReserved(addr) {
			return addr
		}
	}
	return netip.Addr{} // not reached: the block has a free address
}

// lend plans a loan.
func (p *planner) lend(h *held, addr netip.Addr, to *nodeState) {
	h.lent[addr], h.empty = true, false
	if !p.space.isReserved(addr) {
		h.free--
		if !h.withdrawn {
			h.owner.capacity[h.Pool]--
		}
	}
	if !to.named[addr] {
		to.capacity[h.Pool]++
	}
	loan := &borrowed{Loan: Loan{Address: addr, Node: to.Name}, pool: h.Pool, block: h.Block}
	to.loans = append(to.loans, loan)
	p.step(loan, LoanAsked)
}

// step plans the next state of a loan.
func (p *planner) step(loan *borrowed, state LoanState) {
	loan.State = state
	p.plan.Loans = append(p.plan.Loans, LoanStep{Block: loan.block, Address: loan.Address, Node: loan.Node, State: state})
}

// borrowNamed has an address handed over for which an endpoint of the node asks by name, if its owner does not use it.
func (p *planner) borrowNamed(n *nodeState, addr netip.Addr) {
	if p.strict {
		return
	}
	for _, loan := range n.loans {
		if loan.Address == addr {
			if loan.State == LoanRecalled {
				p.step(loan, LoanGiven)
			}
			return
		}
	}
	for _, other := range p.nodes {
		for _, h := range other.leases {
			if h.Block.Contains(addr) {
				if other.Reports && !h.fresh && !other.used[addr] && !other.named[addr] && !h.lent[addr] {
					p.lend(h, addr, n)
				}
				return
			}
		}
	}
}

// returnLoans gives back the loans that the node does not use and can do without.
func (p *planner) returnLoans(n *nodeState) {
	if !n.Reports {
		return
	}
	for _, loan := range n.loans {
		named := n.named[loan.Address]
		keep := named || n.needs(loan.pool) && n.spare(loan.pool) == 0
		if loan.State == LoanRecalled || n.used[loan.Address] || keep && !p.strict && (named || !p.space.isReserved(loan.Address)) {
			continue
		}
		if !named && !p.space.isReserved(loan.Address) {
			n.capacity[loan.pool]--
		}
		if loan.State == LoanAsked {
			p.step(loan, "")
		} else {
			p.step(loan, LoanRecalled)
		}
	}
}

// needs tells whether any endpoint of the node could take an address from the pool.
func (n *nodeState) needs(pool netip.Prefix) bool {
	return slices.ContainsFunc(n.demands, func(d demand) bool { return d.has(pool) })
}
