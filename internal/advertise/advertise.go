// Package advertise decides which prefixes of its own a node advertises by BGP, with which communities, and says why. The node agent goes
// by it, and who explains what the agent does.
package advertise

import (
	"fmt"
	"net/netip"
	"slices"
)

// Rules are what the decision depends on.
type Rules struct {
	// Blocks are leased to the node.
	Blocks []netip.Prefix
	// Named are the prefixes that are advertised for services, because the configuration names them.
	Named []netip.Prefix
	// Private are the pools with disableBGPExport.
	Private []netip.Prefix
	// Communities that routes are advertised with.
	Communities []Communities
}

// Communities are those of the routes that lie in a CIDR.
type Communities struct {
	CIDR   netip.Prefix
	Values []string
}

// why is the reason of a verdict.
type why uint8

const (
	named why = iota
	block
	outside
	private
	inBlock
	unheld
)

// Verdict says whether a prefix is advertised.
type Verdict struct {
	why why
	// of is the pool or block that the reason is about.
	of netip.Prefix
	// block: it is about one.
	block bool
}

// Judge decides about a prefix. held: it is an address that a pod of the node has, or that is translated to one's. A prefix that is neither
// held, nor leased, nor named is not advertised.
func (r *Rules) Judge(p netip.Prefix, held bool) Verdict {
	if slices.Contains(r.Named, p) {
		return Verdict{why: named}
	}
	isBlock := slices.Contains(r.Blocks, p)
	if !isBlock && !held {
		return Verdict{why: unheld}
	}
	if i := slices.IndexFunc(r.Private, func(pool netip.Prefix) bool { return contains(pool, p) }); i >= 0 {
		return Verdict{why: private, of: r.Private[i], block: isBlock}
	}
	if isBlock {
		return Verdict{why: block}
	}
	if i := slices.IndexFunc(r.Blocks, func(block netip.Prefix) bool { return contains(block, p) }); i >= 0 {
		return Verdict{why: inBlock, of: r.Blocks[i]}
	}
	return Verdict{why: outside}
}

// Advertised tells whether the prefix is.
func (v Verdict) Advertised() bool { return v.why == named || v.why == block || v.why == outside }

// Why is the reason in words.
func (v Verdict) Why() string {
	switch v.why {
	case named:
		return "the BGPConfiguration has it advertised for services"
	case block:
		return "it is a block of the node"
	case outside:
		return "a pod of the node has the address, which lies outside the node's blocks"
	case private:
		what := "a pod of the node has the address"
		if v.block {
			what = "it is a block of the node"
		}
		return fmt.Sprintf("%s; pool %s has disableBGPExport", what, v.of)
	case inBlock:
		return fmt.Sprintf("it lies in block %s of the node, which is advertised as a whole", v.of)
	case unheld:
	}
	return "no pod of the node has it"
}

// CommunitiesOf are those that a prefix is advertised with, in order.
func (r *Rules) CommunitiesOf(p netip.Prefix) []string {
	var out []string
	for _, c := range r.Communities {
		if contains(c.CIDR, p) {
			out = append(out, c.Values...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// contains tells whether all of inner lies in outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
