package nftables

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

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
func (l *layout) floatingDestination() []*ruleBuilder {
	r := &rules{l: l}
	for _, f := range l.floating {
		b := r.add()
		b.to(destination, f.outer)
		b.translate(expr.NATTypeDestNAT, f.own)
	}
	return r.list
}

// floatingHairpin makes a workload that reaches itself by a floating address of its own see that address: its answer would not
// leave it otherwise.
func (l *layout) floatingHairpin() []*ruleBuilder {
	r := &rules{l: l}
	for i, f := range l.floating {
		if slices.ContainsFunc(l.floating[:i], func(o floating) bool { return o.own == f.own }) {
			continue // one of them does
		}
		b := r.add()
		b.to(source, f.own)
		b.to(destination, f.own)
		b.translate(expr.NATTypeSourceNAT, f.outer)
	}
	return r.list
}

// to matches packets one end of which is an address.
func (r *ruleBuilder) to(e end, a netip.Addr) {
	fam := familyOf(a)
	r.family(fam)
	r.net(fam, e, netip.PrefixFrom(a, a.BitLen()), false)
}

// translate replaces an address of a connection.
func (r *ruleBuilder) translate(kind expr.NATType, to netip.Addr) {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		family = unix.NFPROTO_IPV6
	}
	r.add(&expr.Immediate{Register: register, Data: to.AsSlice()}, &expr.NAT{Type: kind, Family: family, RegAddrMin: register})
}
