package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
)

// maxPodCIDRBits bounds the addresses of a CIDR of a node's pods: a node keeps 4,096 at most in one block.
const maxPodCIDRBits = 12

// UseNodePodCIDRs says whether nodes give their pods addresses of the CIDRs that Kubernetes allotted to them (spec.podCIDRs of
// Node) instead of leased blocks.
func (c *Cluster) UseNodePodCIDRs(use bool) {
	if c.podCIDRs == use {
		return
	}
	c.podCIDRs = use
	for _, n := range c.nodes {
		c.blocksOfPodCIDRs(n)
		c.touch(KindNodeState, n.name)
	}
}

// setPodCIDRs takes in the CIDRs that Kubernetes allotted to a node.
func (c *Cluster) setPodCIDRs(n *node, cidrs []string) {
	if slices.Equal(n.podCIDRs, cidrs) {
		return
	}
	n.podCIDRs = slices.Clone(cidrs)
	c.blocksOfPodCIDRs(n)
	c.touch(KindNodeState, n.name)
}

// blocksOfPodCIDRs makes the node's CIDRs count as blocks that are leased to it, or no longer.
func (c *Cluster) blocksOfPodCIDRs(n *node) {
	var names []string
	if c.podCIDRs {
		for _, text := range n.podCIDRs {
			cidr, ok := podCIDR(text)
			if !ok {
				continue
			}
			name, host := "node "+n.name+" "+cidr.String(), blocks.HostAffinity+n.name // no object of the API server has a name with blanks
			names = append(names, name)
			c.setBlock(&v3.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.IPAMBlockSpec{CIDR: cidr.String(), Affinity: &host}})
		}
	}
	for _, name := range n.podCIDRBlocks {
		if !slices.Contains(names, name) {
			c.deleteBlock(name)
		}
	}
	n.podCIDRBlocks = names
}

// podCIDR reads a CIDR of a node's pods; false when it can't be used.
func podCIDR(text string) (netip.Prefix, bool) {
	cidr, err := netip.ParsePrefix(text)
	if err != nil || cidr.Addr().BitLen()-cidr.Bits() > maxPodCIDRBits {
		return netip.Prefix{}, false
	}
	return cidr.Masked(), true
}

// podCIDRRequest is what a pod may get while nodes use their own CIDRs: an address of each family that its node has.
func (c *Cluster) podCIDRRequest(e *endpoint) v1alpha1.AddressRequest {
	n := e.node
	switch {
	case e.wishes.v4Pools != "" || e.wishes.v6Pools != "":
		return impossible("annotations %s and %s: pods can't choose pools while the operator runs with --use-node-pod-cidrs: remove them", annotationIPv4Pools, annotationIPv6Pools)
	case len(n.podCIDRs) == 0:
		return impossible("node %s has no spec.podCIDRs: start kube-controller-manager with --allocate-node-cidrs, or the operator without --use-node-pod-cidrs", n.name)
	case len(n.podCIDRBlocks) < len(n.podCIDRs):
		return v1alpha1.AddressRequest{Impossible: fmt.Sprintf("node %s: spec.podCIDRs are %s, and each may have 4096 addresses at most (/20, /116): see --node-cidr-mask-size of kube-controller-manager",
			n.name, strings.Join(n.podCIDRs, ", "))}
	}
	return v1alpha1.AddressRequest{}
}
