package render

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/blocks"
	"github.com/manul-net/manul/internal/ipam"
)

// setBlock takes in a block. One that belongs to no node is none here.
func (c *Cluster) setBlock(o *v3.IPAMBlock) {
	h, err := blocks.Read(o)
	if err != nil || h.Node == "" {
		c.deleteBlock(o.Name)
		return
	}
	if before, ok := c.blocks[o.Name]; ok && before.Equal(h) {
		return
	}
	c.deleteBlock(o.Name)
	c.blocks[o.Name] = h
	c.node(h.Node).blocks[o.Name] = h
	c.touchBlocks(h.Node)
	for _, loan := range h.Loans {
		if loan.State != ipam.LoanAsked {
			c.node(loan.Node).borrowed[o.Name] = h
			c.touchBlocks(loan.Node)
		}
	}
}

func (c *Cluster) deleteBlock(name string) {
	h, ok := c.blocks[name]
	if !ok {
		return
	}
	delete(c.blocks, name)
	for _, loan := range h.Loans {
		n := c.node(loan.Node)
		delete(n.borrowed, name)
		c.touchBlocks(n.name)
		c.dropNode(n)
	}
	n := c.node(h.Node)
	delete(n.blocks, name)
	c.touchBlocks(n.name)
	c.dropNode(n)
}

func (c *Cluster) touchBlocks(node string) {
	c.touch(KindNodeState, node)
	c.touch(KindNodeNetwork, node)
}

// leased are the blocks of a node in order. Should two objects stand for one block, one of them counts.
func (n *node) leased() []ipam.Holding {
	out := make([]ipam.Holding, 0, len(n.blocks))
	for _, h := range n.blocks {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b ipam.Holding) int {
		if a.Block != b.Block {
			return comparePrefixes(a.Block, b.Block)
		}
		return int(min(max(b.Revision-a.Revision, -1), 1))
	})
	return slices.CompactFunc(out, func(a, b ipam.Holding) bool { return a.Block == b.Block })
}

// loans are the addresses that a node borrowed, in order, those that it has been asked to give back among them.
func (n *node) loans() []ipam.Loan {
	var out []ipam.Loan
	for _, h := range n.borrowed {
		for _, loan := range h.Loans {
			if loan.Node == n.name && loan.State != ipam.LoanAsked {
				out = append(out, loan)
			}
		}
	}
	slices.SortFunc(out, func(a, b ipam.Loan) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(out, func(a, b ipam.Loan) bool { return a.Address == b.Address })
}

// usable are the blocks and borrowed addresses from which the node may give pods addresses.
func (n *node) usable() []netip.Prefix {
	var out []netip.Prefix
	for _, h := range n.leased() {
		if !h.Withdrawn {
			out = append(out, h.Block)
		}
	}
	for _, loan := range n.loans() {
		if loan.State == ipam.LoanGiven {
			out = append(out, netip.PrefixFrom(loan.Address, loan.Address.BitLen()))
		}
	}
	return out
}

// lease is a block as the node gets to know it. Of a pool that is disabled, or is neither for pods nor for tunnels, all addresses
// are kept back.
func (c *Cluster) lease(h ipam.Holding) v1alpha1.BlockLease {
	l := v1alpha1.BlockLease{
		CIDR: h.Block.String(), Pool: c.poolOf(h.Block), Reserved: c.reservedIn(h.Block), Withdrawn: h.Withdrawn, Revision: h.Revision,
	}
	for _, loan := range h.Loans {
		l.Lent = append(l.Lent, loan.Address.String())
	}
	for _, p := range c.pools {
		if p.cidr.String() != l.Pool {
			continue
		}
		if p.disabled || !p.forPods && !p.forTunnels {
			l.Reserved = []string{l.CIDR}
		}
		l.TunnelsOnly = l.TunnelsOnly || p.forTunnels && !p.forPods
	}
	return l
}
