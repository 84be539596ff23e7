package blocks

import (
	"net/netip"
	"testing"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

func TestBlockObjectsHoldLoans(t *testing.T) {
	h := ipam.Holding{Block: netip.MustParsePrefix("10.48.0.64/26"), Node: "n1", Withdrawn: true, Revision: 9, Loans: []ipam.Loan{
		{Address: netip.MustParseAddr("10.48.0.64"), Node: "n2", State: ipam.LoanAsked, Revision: 9},
		{Address: netip.MustParseAddr("10.48.0.70"), Node: "n3", State: ipam.LoanGiven, Revision: 7},
		{Address: netip.MustParseAddr("10.48.0.127"), Node: "n2", State: ipam.LoanAsked, Revision: 8},
	}}
	var o v3.IPAMBlock
	Write(h, &o.Spec)
	got, err := Read(&o)
	if err != nil || !got.Equal(h) {
		t.Errorf("read %+v, %v, want %+v", got, err, h)
	}
	if len(o.Spec.Allocations) != 64 || len(o.Spec.Attributes) != 2 {
		t.Errorf("%d allocations with %d attributes", len(o.Spec.Allocations), len(o.Spec.Attributes))
	}
	h.Loans = nil
	Write(h, &o.Spec)
	if got, err := Read(&o); err != nil || !got.Equal(h) || len(o.Spec.Allocations) != 0 {
		t.Errorf("read %+v, %v", got, err)
	}
	for name, spoil := range map[string]func(*v3.IPAMBlockSpec){
		"no CIDR":               func(s *v3.IPAMBlockSpec) { s.CIDR = "10.48" },
		"attribute that is not": func(s *v3.IPAMBlockSpec) { s.Allocations = []*int{new(5), new(-1)} },
		"more than the block":   func(s *v3.IPAMBlockSpec) { s.Allocations = make([]*int, 100); s.Allocations[99] = new(0) },
		"of another program": func(s *v3.IPAMBlockSpec) {
			s.Allocations, s.Attributes = []*int{new(0)}, []v3.AllocationAttribute{{ActiveOwnerAttrs: map[string]string{"node": "n2"}}}
		},
	} {
		Write(h, &o.Spec)
		spoil(&o.Spec)
		if got, err := Read(&o); err == nil && len(got.Loans) > 0 {
			t.Errorf("%s: read %+v", name, got)
		}
	}
}
