package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// world is a cluster in which every node agrees at once to whatever it is asked.
type world struct {
	in       Input
	holdings map[netip.Prefix]Holding
}

// drawWorld draws a cluster in the midst of its life: addresses in use, blocks withdrawn, loans in every state.
func drawWorld(t *rapid.T) *world {
	w := &world{in: drawInput(t), holdings: map[netip.Prefix]Holding{}}
	w.in.Strict = rapid.IntRange(0, 4).Draw(t, "strict") == 0
	w.in.Frozen = rapid.IntRange(0, 5).Draw(t, "frozen") == 0
	used := map[netip.Addr]bool{}
	node := func(name string) *Node {
		i := slices.IndexFunc(w.in.Nodes, func(n Node) bool { return n.Name == name })
		if i < 0 {
			return nil
		}
		return &w.in.Nodes[i]
	}
	for i := range w.in.Nodes {
		w.in.Nodes[i].Reports = rapid.IntRange(0, 5).Draw(t, "reports") > 0
		for _, p := range w.in.Pools {
			if rapid.IntRange(0, 5).Draw(t, "fixed") == 0 {
				w.in.Nodes[i].Fixed = append(w.in.Nodes[i].Fixed, AddrAt(p.CIDR, rapid.Uint64Range(0, Size(p.CIDR)-1).Draw(t, "named")))
			}
		}
	}
	for _, lease := range w.in.Leases {
		h := Holding{Block: lease.Block, Node: lease.Node, Revision: 1, Withdrawn: rapid.IntRange(0, 4).Draw(t, "withdrawn") == 0}
		owner := node(lease.Node)
		share := rapid.IntRange(0, 3).Draw(t, "fill")
		for offset := range Size(lease.Block) {
			addr := AddrAt(lease.Block, offset)
			switch draw := rapid.IntRange(0, 11).Draw(t, "address"); {
			case draw < 3*share && owner != nil:
				owner.Used, used[addr] = append(owner.Used, addr), true
			case draw == 11:
				to := fmt.Sprint("n", rapid.IntRange(0, 5).Draw(t, "borrower"))
				state := rapid.SampledFrom([]LoanState{LoanAsked, LoanGiven, LoanRecalled}).Draw(t, "state")
				if to == lease.Node {
					continue
				}
				h.Loans = append(h.Loans, Loan{Address: addr, Node: to, State: state, Revision: 1})
				if borrower := node(to); borrower != nil && state != LoanAsked && rapid.Bool().Draw(t, "used") {
					borrower.Used, used[addr] = append(borrower.Used, addr), true
				}
			}
		}
		w.holdings[h.Block] = h
	}
	w.load()
	return w
}

// load brings the holdings into the planner's input.
func (w *world) load() {
	w.in.Leases, w.in.Withdrawn, w.in.Loans = nil, map[netip.Prefix]bool{}, map[netip.Prefix][]Loan{}
	for block, h := range w.holdings {
		lease := Lease{Block: block, Node: h.Node}
		for _, p := range w.in.Pools {
			if p.CIDR.Bits() <= block.Bits() && p.CIDR.Contains(block.Addr()) {
				lease.Pool = p.CIDR
			}
		}
		w.in.Leases, w.in.Withdrawn[block], w.in.Loans[block] = append(w.in.Leases, lease), h.Withdrawn, h.Loans
	}
}

// reports are what the nodes say that answer.
func (w *world) reports() Reports {
	out := Reports{}
	for _, n := range w.in.Nodes {
		if !n.Reports {
			continue
		}
		out[n.Name] = map[netip.Prefix]Report{}
		for block, h := range w.holdings {
			if h.Node == n.Name {
				r := Report{Revision: h.Revision, Released: h.Withdrawn && !slices.ContainsFunc(n.Used, block.Contains)}
				for _, loan := range h.Loans {
					if !slices.Contains(n.Used, loan.Address) {
						r.Withheld = append(r.Withheld, loan.Address)
					}
				}
				out[n.Name][block] = r
			}
			for _, loan := range h.Loans {
				if loan.Node == n.Name && loan.State != LoanAsked {
					single := netip.PrefixFrom(loan.Address, loan.Address.BitLen())
					out[n.Name][single] = Report{Revision: loan.Revision, Released: loan.State == LoanRecalled && !slices.Contains(n.Used, loan.Address)}
				}
			}
		}
	}
	return out
}

// carryOut does what a plan says, and then what the nodes agree to. It tells whether anything changed.
func (w *world) carryOut(plan Plan) bool {
	changed := len(plan.Lease)+len(plan.Release) > 0
	for block, h := range Carry(plan, w.holdings) {
		w.holdings[block], changed = h, true
	}
	for _, lease := range plan.Release {
		delete(w.holdings, lease.Block)
	}
	for _, lease := range plan.Lease {
		w.holdings[lease.Block] = Holding{Block: lease.Block, Node: lease.Node, Revision: 1}
	}
	reports := w.reports()
	for block, h := range maps.Clone(w.holdings) {
		next, free := h.Settle(reports)
		if free {
			delete(w.holdings, block)
		} else {
			w.holdings[block] = next
		}
		changed = changed || free || !next.Equal(h)
	}
	w.load()
	return changed
}

// TestPropertyPlansComeToRest: whatever state a cluster is in, carrying out plan after plan ends in one that changes nothing, and
// then nobody lacks an address that another could spare.
func TestPropertyPlansComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		var plan Plan
		for round := 0; ; round++ {
			plan = MakePlan(w.in)
			if !w.carryOut(plan) {
				break
			}
			if round > 40 {
				t.Fatalf("after %d plans there is still something to do: %+v", round, MakePlan(w.in))
			}
		}
		for _, short := range plan.Short {
			if short.Reason == PoolsFull && !w.in.Strict {
				w.checkFull(t, short)
			}
		}
		w.checkGivenBack(t)
	})
}

// checkFull: of the pools of a shortage, no node that answers can spare an address.
func (w *world) checkFull(t *rapid.T, short Shortage) {
	t.Helper()
	p := newPlanner(w.in)
	for _, n := range p.nodes {
		for _, pool := range short.Pools {
			if n.Name != short.Node && n.Reports && n.capacity[pool] > 0 && !w.canUse(n.Node, pool) {
				t.Fatalf("%+v, but node %s keeps %d addresses of %s that none of its endpoints can take", short, n.Name, n.capacity[pool], pool)
			}
			if n.Name != short.Node && n.Reports && n.spare(pool) > 0 {
				t.Fatalf("%+v, but node %s can spare %d addresses of %s", short, n.Name, n.spare(pool), pool)
			}
			for _, h := range n.leases {
				if n.Name != short.Node && n.Reports && h.Pool == pool && h.withdrawn && h.free > 0 {
					t.Fatalf("%+v, but of %s, withdrawn from node %s, %d addresses are free", short, h.Block, n.Name, h.free)
				}
			}
		}
	}
}

// canUse tells whether any endpoint of a node that lacks an address could take one from a pool.
func (w *world) canUse(n Node, pool netip.Prefix) bool {
	for _, p := range w.in.Pools {
		waiting := n.Endpoints4
		if pool.Addr().Is6() {
			waiting = n.Endpoints6
		}
		if p.CIDR == pool && waiting > 0 && p.mayServe(n) {
			return true
		}
	}
	return slices.ContainsFunc(n.Asked, func(a Ask) bool { return a.Endpoints > 0 && slices.Contains(a.Pools, pool) })
}

// checkGivenBack: nodes that answer hold nothing back that they neither use nor may use.
func (w *world) checkGivenBack(t *rapid.T) {
	t.Helper()
	p := newPlanner(w.in)
	for _, n := range p.nodes {
		for _, h := range n.leases {
			if n.Reports && h.empty && !p.wants(n, h) {
				t.Fatalf("node %s keeps %s, which it neither uses nor may use", n.Name, h.Block)
			}
			if n.Reports && !h.withdrawn && !p.wants(n, h) {
				t.Fatalf("node %s may give addresses from %s, which it may not use", n.Name, h.Block)
			}
		}
	}
}

// TestSettle: nothing passes from one node to another before the one that gives it away has agreed to just that.
func TestSettle(t *testing.T) {
	block, single := prefix("10.48.0.0/26"), prefix("10.48.0.7/32")
	seven := addr("10.48.0.7")
	withdrawn := Holding{Block: block, Node: "n1", Withdrawn: true, Revision: 5}
	lent := func(state LoanState) Holding {
		return Holding{Block: block, Node: "n1", Revision: 6, Loans: []Loan{{Address: seven, Node: "n2", State: state, Revision: 5}}}
	}
	for _, tc := range []struct {
		name    string
		holding Holding
		node    string
		of      netip.Prefix
		report  Report
		want    string
	}{
		{"the node says nothing", withdrawn, "n1", prefix("10.48.9.0/26"), Report{Revision: 5, Released: true}, "same"},
		{"the block is released", withdrawn, "n1", block, Report{Revision: 5, Released: true}, "free"},
		{"addresses are in use", withdrawn, "n1", block, Report{Revision: 5}, "same"},
		{"the word is about an earlier withdrawal", withdrawn, "n1", block, Report{Revision: 4, Released: true}, "same"},
		{"another node's word", withdrawn, "n2", block, Report{Revision: 5, Released: true}, "same"},
		{"the node knows a later lease", Holding{Block: block, Node: "n1", Revision: 5}, "n1", block, Report{Revision: 9}, "10"},
		{"not while a loan is out", Holding{Block: block, Node: "n1", Withdrawn: true, Revision: 5, Loans: lent(LoanGiven).Loans}, "n1", block, Report{Revision: 5, Released: true}, "same"},
		{"the owner agrees", lent(LoanAsked), "n1", block, Report{Revision: 6, Withheld: []netip.Addr{seven}}, "7 Given 7"},
		{"the owner agreed, and has not seen what came later", lent(LoanAsked), "n1", block, Report{Revision: 5, Withheld: []netip.Addr{seven}}, "7 Given 7"},
		{"the owner agreed to an earlier loan", lent(LoanAsked), "n1", block, Report{Revision: 4, Withheld: []netip.Addr{seven}}, "same"},
		{"the owner uses it", lent(LoanAsked), "n1", block, Report{Revision: 6}, "same"},
		{"the borrower lets go", lent(LoanRecalled), "n2", single, Report{Revision: 5, Released: true}, "7"},
		{"the borrower uses it", lent(LoanRecalled), "n2", single, Report{Revision: 5}, "same"},
		{"the borrower let go at an earlier time", lent(LoanRecalled), "n2", single, Report{Revision: 4, Released: true}, "same"},
		{"nobody asked for it", lent(LoanGiven), "n2", single, Report{Revision: 9, Released: true}, "same"},
	} {
		next, free := tc.holding.Settle(Reports{tc.node: {tc.of: tc.report}})
		got := fmt.Sprint(next.Revision)
		for _, loan := range next.Loans {
			got += fmt.Sprintf(" %s %d", loan.State, loan.Revision)
		}
		switch {
		case free:
			got = "free"
		case next.Equal(tc.holding):
			got = "same"
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
