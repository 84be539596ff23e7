package ipam

import (
	"net/netip"
	"testing"
)

// A node that takes over a block of which it borrowed an address has the address with the block, also when the same plan recalls the loan:
// nobody borrows from itself.
func TestWhoTakesABlockOverBorrowsNothingOfIt(t *testing.T) {
	block, pool, addr := netip.MustParsePrefix("10.48.0.2/31"), netip.MustParsePrefix("10.48.0.0/29"), netip.MustParseAddr("10.48.0.3")
	before := Holding{Block: block, Node: "lost", Revision: 2, Loans: []Loan{{Address: addr, Node: "n3", State: LoanGiven, Revision: 2}}}
	next := Carry(Plan{
		TakeOver: []Lease{{Block: block, Pool: pool, Node: "n3"}},
		Loans:    []LoanStep{{Block: block, Address: addr, Node: "n3", State: LoanRecalled}},
	}, map[netip.Prefix]Holding{block: before})
	if want := (Holding{Block: block, Node: "n3", Revision: 3}); !next[block].Equal(want) {
		t.Errorf("the block becomes %+v, want %+v", next[block], want)
	}
}
