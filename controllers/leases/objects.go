package leases

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// typeHost is the type of affinities to nodes.
const typeHost = "host"

// blockObject stands for a lease. Its name follows from its CIDR alone, so of two operators that lease the same block
// only one succeeds. The lists of single addresses say which are lent to other nodes; which are in use is the nodes' own business.
// The revision of a lease is greater than any of an earlier lease of the block, so it begins with the time.
func blockObject(lease ipam.Lease, now time.Time) *v3.IPAMBlock {
	o := &v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: ipam.Name(lease.Block)}}
	o.Spec.AffinityClaimTime = &metav1.Time{Time: now}
	blocks.Write(ipam.Holding{Block: lease.Block, Node: lease.Node, Revision: now.UnixMicro()}, &o.Spec)
	return o
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
