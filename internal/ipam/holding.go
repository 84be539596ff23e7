package ipam

import (
	"maps"
	"net/netip"
	"slices"
)

// Holding is a block that is given out, with the single addresses of it that are handed over to other nodes: the content
// of an IPAMBlock.
type Holding struct {
	Block netip.Prefix
	// Node that has the block; empty: nobody, or something that is no node.
	Node string
	// Withdrawn: the node is to give no further addresses out of it, and the block goes back once none is in use.
	Withdrawn bool
	// Revision grows with each change of the block, also from one lease of it to the next.
	Revision int64
	// Loans in order of address.
	Loans []Loan
}

// Loan is a single address of a block that another node may use.
type Loan struct {
	Address netip.Addr
	// Node that uses the address.
	Node  string
	State LoanState
	// Revision of the block at which the loan came into its state.
	Revision int64
}

// LoanState is how far a loan is. An address goes from the node that has its block to the one that borrows it, and back,
// only after the one that gives it away has said that it does not use it: at no time may both give it to a pod.
type LoanState string

// The states of loans.
const (
	// LoanAsked: the owner is to take the address out of its choice. The borrower knows nothing of it yet.
	LoanAsked LoanState = "Asked"
	// LoanGiven: the borrower may use the address.
	LoanGiven LoanState = "Given"
	// LoanRecalled: the borrower is to take the address out of its choice. The owner knows nothing of it yet.
	LoanRecalled LoanState = "Recalled"
)

// Equal tells whether two holdings say the same.
func (h Holding) Equal(o Holding) bool {
	return h.Block == o.Block && h.Node == o.Node && h.Withdrawn == o.Withdrawn && h.Revision == o.Revision && slices.Equal(h.Loans, o.Loans)
}

// Report is what a node says about a block that it has, or about an address that it borrowed (a block of one address).
type Report struct {
	// Revision of the block that the node goes by.
	Revision int64
	// Released: the block is withdrawn, nothing in it is in use, and nothing will be.
	Released bool
	// Withheld are addresses that the node gives to none of its pods, and that none uses.
	Withheld []netip.Addr
}

// Reports are those of all nodes, by name and block.
type Reports map[string]map[netip.Prefix]Report

// Settle is what becomes of a holding by the word of the nodes concerned: an address that its owner has taken out of its choice is
// given to the borrower, one that the borrower has let go of goes back, and a withdrawn block that its node has let go of is free.
// A node's word counts only if it goes by the change that it is asked to agree to, or a later one.
func (h Holding) Settle(reports Reports) (next Holding, free bool) {
	next = h
	next.Loans = nil
	owner, heard := reports[h.Node][h.Block]
	changed := heard && owner.Revision > h.Revision // the node knows a later lease of the block, and waits for one later still
	for _, loan := range h.Loans {
		switch loan.State {
		case LoanAsked:
			if heard && owner.Revision >= loan.Revision && slices.Contains(owner.Withheld, loan.Address) {
				loan.State, loan.Revision, changed = LoanGiven, 0, true
			}
		case LoanRecalled:
			r, ok := reports[loan.Node][netip.PrefixFrom(loan.Address, loan.Address.BitLen())]
			if ok && r.Revision >= loan.Revision && r.Released {
				changed = true
				continue
			}
		case LoanGiven:
		}
		next.Loans = append(next.Loans, loan)
	}
	if changed {
		next = next.stamped(max(h.Revision, owner.Revision) + 1)
		return next, false
	}
	return h, h.Withdrawn && len(h.Loans) == 0 && heard && owner.Revision == h.Revision && owner.Released
}

// stamped gives a changed holding its revision, and the loans whose revision is 0 the same.
func (h Holding) stamped(revision int64) Holding {
	h.Revision = revision
	h.Loans = slices.Clone(h.Loans)
	for i := range h.Loans {
		if h.Loans[i].Revision == 0 {
			h.Loans[i].Revision = revision
		}
	}
	return h
}

// Carry is what becomes of holdings by a plan's changes of blocks that exist: those that change, in their next form, by block.
func Carry(plan Plan, holdings map[netip.Prefix]Holding) map[netip.Prefix]Holding {
	next := map[netip.Prefix]Holding{}
	change := func(block netip.Prefix, do func(*Holding)) {
		h, ok := next[block]
		if !ok {
			if h, ok = holdings[block]; !ok {
				return
			}
			h.Loans = slices.Clone(h.Loans)
		}
		do(&h)
		next[block] = h
	}
	for _, lease := range plan.Withdraw {
		change(lease.Block, func(h *Holding) { h.Withdrawn = true })
	}
	for _, lease := range plan.Restore {
		change(lease.Block, func(h *Holding) { h.Withdrawn = false })
	}
	for _, lease := range plan.TakeOver {
		change(lease.Block, func(h *Holding) {
			h.Node, h.Withdrawn = lease.Node, false
			h.Loans = slices.DeleteFunc(h.Loans, func(l Loan) bool { return l.Node == lease.Node || l.State == LoanAsked })
		})
	}
	for _, step := range plan.Loans {
		change(step.Block, func(h *Holding) {
			h.Loans = slices.DeleteFunc(h.Loans, func(l Loan) bool { return l.Address == step.Address })
			if step.State != "" && step.Node != h.Node { // who takes a block over in the same plan has the address with it
				h.Loans = append(h.Loans, Loan{Address: step.Address, Node: step.Node, State: step.State})
			}
		})
	}
	for block, h := range next {
		slices.SortFunc(h.Loans, func(a, b Loan) int { return a.Address.Compare(b.Address) })
		next[block] = h.stamped(holdings[block].Revision + 1)
	}
	maps.DeleteFunc(next, func(_ netip.Prefix, h Holding) bool { return h.Equal(holdings[h.Block]) })
	return next
}
