package render

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// TestLoansReachTheNodes: the owner withholds from the first, the borrower gets to know of an address, and others send its packets there,
// once it is given.
func TestLoansReachTheNodes(t *testing.T) {
	c := New()
	give(t, c, parse(t, `apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Node
metadata: {name: z}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}`)...)
	h := ipam.Holding{Block: netip.MustParsePrefix("10.1.0.0/26"), Node: "x", Revision: 9, Withdrawn: true, Loans: []ipam.Loan{
		{Address: netip.MustParsePrefix("10.1.0.1/32").Addr(), Node: "z", State: ipam.LoanAsked, Revision: 9},
		{Address: netip.MustParsePrefix("10.1.0.2/32").Addr(), Node: "z", State: ipam.LoanGiven, Revision: 7},
		{Address: netip.MustParsePrefix("10.1.0.3/32").Addr(), Node: "z", State: ipam.LoanRecalled, Revision: 8},
	}}
	set := func() {
		o := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: ipam.Name(h.Block)}}
		blocks.Write(h, &o.Spec)
		give(t, c, o)
	}
	check := func(when string, blocks []v1alpha1.BlockLease, borrowed []v1alpha1.BorrowedAddress, behind []string) {
		t.Helper()
		x, y := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState), c.Desired(Key{KindNodeState, "z"}).(*v1alpha1.NodeState)
		network := c.Desired(Key{KindNodeNetwork, "z"}).(*v1alpha1.NodeNetwork)
		if diff := cmp.Diff(blocks, x.Spec.Blocks); diff != "" {
			t.Errorf("%s: blocks of the owner (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(borrowed, y.Spec.Borrowed); diff != "" {
			t.Errorf("%s: borrowed (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(behind, network.Spec.Borrowed); diff != "" {
			t.Errorf("%s: behind the borrower (-want +got):\n%s", when, diff)
		}
		if len(y.Spec.Blocks)+len(network.Spec.Blocks) > 0 {
			t.Errorf("%s: the borrower has blocks", when)
		}
	}
	set()
	check("loans in each state",
		[]v1alpha1.BlockLease{{CIDR: "10.1.0.0/26", Pool: "10.1.0.0/16", Lent: []string{"10.1.0.1", "10.1.0.2", "10.1.0.3"}, Withdrawn: true, Revision: 9}},
		[]v1alpha1.BorrowedAddress{{Address: "10.1.0.2", Pool: "10.1.0.0/16", Revision: 7}, {Address: "10.1.0.3", Pool: "10.1.0.0/16", Recalled: true, Revision: 8}},
		[]string{"10.1.0.2", "10.1.0.3"},
	)
	c.Dirty()
	h.Loans, h.Revision, h.Withdrawn = h.Loans[:1], 10, false
	set()
	dirty := map[Key]bool{}
	for _, key := range c.Dirty() {
		dirty[key] = true
	}
	for _, key := range []Key{{KindNodeState, "x"}, {KindNodeState, "z"}, {KindNodeNetwork, "z"}} {
		if !dirty[key] {
			t.Errorf("%v is not rendered anew", key)
		}
	}
	check("two are back", []v1alpha1.BlockLease{{CIDR: "10.1.0.0/26", Pool: "10.1.0.0/16", Lent: []string{"10.1.0.1"}, Revision: 10}}, nil, nil)
}
