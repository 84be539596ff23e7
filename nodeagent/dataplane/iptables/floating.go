package iptables

import (
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// floating is a floating address and the workload's own.
type floating struct{ outer, own netip.Addr }

// floatingOf are the floating addresses, in order. There are few on a node, and only the first packet of a connection is compared
// with them.
func floatingOf(desired *tables.Policy) []floating {
	list := make([]floating, 0, desired.Floating.Len())
	for outer, own := range desired.Floating.All() {
		if outer.IsValid() && own.IsValid() && outer.Is4() == own.Is4() {
			list = append(list, floating{outer, own})
		}
	}
	slices.SortFunc(list, func(a, b floating) int { return a.outer.Compare(b.outer) })
	return list
}

// floatingDestination makes what is for a floating address be for the workload's own.
func (l layout) floatingDestination() *chain {
	c := newChain(floatingChain)
	for _, f := range l.floating {
		if familyOf(f.outer) == l.fam {
			c.add("-d", single(f.outer), "-j DNAT --to-destination", f.own.String())
		}
	}
	return c
}

// floatingHairpin makes a workload that reaches itself by a floating address of its own see that address: its answer would not
// leave it otherwise.
func (l layout) floatingHairpin(c *chain) {
	for i, f := range l.floating {
		if familyOf(f.outer) != l.fam || slices.ContainsFunc(l.floating[:i], func(o floating) bool { return o.own == f.own }) {
			continue // one of them does
		}
		c.add("-s", single(f.own), "-d", single(f.own), "-j SNAT --to-source", f.outer.String())
	}
}

// single is an address as a CIDR.
func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
