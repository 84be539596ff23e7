// Package blocks reads and writes the objects that stand for blocks of addresses.
package blocks

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// Names of what an IPAMBlock says about a loan.
const (
	attributeNode = "node"
	attributeLoan = "manul.dev/loan"
)

// HostAffinity introduces, in an IPAMBlock's affinity, the name of the node that has the block.
const HostAffinity = "host:"

// Read reads a block's object. The lists of single addresses hold the loans; what else they say is passed over.
func Read(o *v3.IPAMBlock) (ipam.Holding, error) {
	cidr, err := netip.ParsePrefix(o.Spec.CIDR)
	if err != nil {
		return ipam.Holding{}, fmt.Errorf("spec.cidr: %w", err)
	}
	h := ipam.Holding{Block: cidr.Masked(), Withdrawn: o.Spec.Deleted, Revision: o.Spec.SequenceNumber}
	if o.Spec.Affinity != nil {
		if node, ok := strings.CutPrefix(*o.Spec.Affinity, HostAffinity); ok {
			h.Node = node
		}
	}
	for ordinal, at := range o.Spec.Allocations {
		if at == nil || *at < 0 || *at >= len(o.Spec.Attributes) || uint64(ordinal) >= ipam.Size(h.Block) {
			continue
		}
		attrs := o.Spec.Attributes[*at].ActiveOwnerAttrs
		loan := ipam.Loan{Address: ipam.AddrAt(h.Block, uint64(ordinal)), Node: attrs[attributeNode], State: ipam.LoanState(attrs[attributeLoan])}
		loan.Revision = o.Spec.SequenceNumberForAllocation[strconv.Itoa(ordinal)]
		if loan.Node != "" && slices.Contains([]ipam.LoanState{ipam.LoanAsked, ipam.LoanGiven, ipam.LoanRecalled}, loan.State) {
			h.Loans = append(h.Loans, loan)
		}
	}
	return h, nil
}

// Write puts a holding into the spec of its object.
func Write(h ipam.Holding, spec *v3.IPAMBlockSpec) {
	affinity := HostAffinity + h.Node
	spec.CIDR, spec.Affinity, spec.Deleted, spec.SequenceNumber = h.Block.String(), &affinity, h.Withdrawn, h.Revision
	spec.Allocations, spec.Unallocated, spec.Attributes, spec.SequenceNumberForAllocation = []*int{}, []int{}, []v3.AllocationAttribute{}, nil
	if len(h.Loans) == 0 {
		return
	}
	spec.Allocations = make([]*int, ipam.Size(h.Block))
	spec.SequenceNumberForAllocation = map[string]int64{}
	for _, loan := range h.Loans {
		at := slices.IndexFunc(spec.Attributes, func(a v3.AllocationAttribute) bool {
			return a.ActiveOwnerAttrs[attributeNode] == loan.Node && a.ActiveOwnerAttrs[attributeLoan] == string(loan.State)
		})
		if at < 0 {
			at = len(spec.Attributes)
			spec.Attributes = append(spec.Attributes, v3.AllocationAttribute{
				ActiveOwnerAttrs: map[string]string{attributeNode: loan.Node, attributeLoan: string(loan.State)},
			})
		}
		ordinal := ipam.Offset(h.Block, loan.Address)
		spec.Allocations[ordinal] = &at
		spec.SequenceNumberForAllocation[strconv.FormatUint(ordinal, 10)] = loan.Revision
	}
}
