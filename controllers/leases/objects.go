package leases

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// typeHost is the type of affinities to nodes.
const typeHost = "host"

// blockObject stands for a lease. Its name follows from its CIDR alone, so of two operators that lease the same block
// only one succeeds. The lists of single addresses are the nodes' own business here and stay empty.
func blockObject(lease ipam.Lease, now time.Time) *v3.IPAMBlock {
	return &v3.IPAMBlock{
		ObjectMeta: metav1.ObjectMeta{Name: ipam.Name(lease.Block)},
		Spec: v3.IPAMBlockSpec{
			CIDR:              lease.Block.String(),
			Affinity:          new(hostAffinity + lease.Node),
			AffinityClaimTime: &metav1.Time{Time: now},
			Allocations:       []*int{},
			Unallocated:       []int{},
			Attributes:        []v3.AllocationAttribute{},
		},
	}
}

func affinityObject(lease ipam.Lease) *v3.BlockAffinity {
	return &v3.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: affinityName(lease)},
		Spec: v3.BlockAffinitySpec{
			State: v3.StateConfirmed, Node: lease.Node, Type: typeHost, CIDR: lease.Block.String(),
		},
	}
}

func affinityName(lease ipam.Lease) string { return ipam.AffinityName(lease.Node, lease.Block) }
