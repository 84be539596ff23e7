package nftables

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/manul-net/manul/nodeagent/tables"
)

// intervals holds the CIDRs of an interval set. The kernel refuses overlapping intervals, so it gets only those that no
// other one covers; a covered CIDR comes back when the last that covers it goes.
type intervals struct {
	all bart.Lite
}

// changes of a set of CIDRs in the kernel.
type changes map[netip.Prefix]int

func (c changes) count(p netip.Prefix, n int) {
	if c[p] += n; c[p] == 0 {
		delete(c, p)
	}
}

// sorted returns the CIDRs whose count is n.
func (c changes) sorted(n int) []netip.Prefix {
	var list []netip.Prefix
	for p, count := range c {
		if count == n {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

// insert adds p and counts what that changes in the kernel.
func (s *intervals) insert(p netip.Prefix, c changes) {
	if s.all.Get(p) {
		return
	}
	covered := s.covered(p)
	s.all.Insert(p)
	if covered {
		return
	}
	for sub := range s.greatestWithin(p) {
		c.count(sub, -1)
	}
	c.count(p, 1)
}

// remove deletes p and counts what that changes in the kernel.
func (s *intervals) remove(p netip.Prefix, c changes) {
	if !s.all.Get(p) {
		return
	}
	s.all.Delete(p)
	if s.covered(p) {
		return
	}
	c.count(p, -1)
	for sub := range s.greatestWithin(p) {
		c.count(sub, 1)
	}
}

// covered tells whether another CIDR covers p.
func (s *intervals) covered(p netip.Prefix) bool {
	for super := range s.all.Supernets(p) {
		if super != p {
			return true
		}
	}
	return false
}

// greatestWithin iterates over the CIDRs inside p, p apart, that no other one inside p covers.
func (s *intervals) greatestWithin(p netip.Prefix) func(func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		var last netip.Prefix
		for sub := range s.all.Subnets(p) {
			if sub == p || last.IsValid() && last.Contains(sub.Addr()) {
				continue
			}
			last = sub
			if !yield(sub) {
				return
			}
		}
	}
}

// greatest returns the CIDRs of one family that no other one covers.
func (s *intervals) greatest(fam family) []netip.Prefix {
	var list []netip.Prefix
	every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if fam == ipv6 {
		every = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if s.all.Get(every) {
		return []netip.Prefix{every}
	}
	for p := range s.greatestWithin(every) {
		list = append(list, p)
	}
	return list
}

// intervalOf is a CIDR as elements of an interval set.
func intervalOf(p netip.Prefix) []element {
	first := p.Masked().Addr()
	elements := []element{{key: string(first.AsSlice())}}
	if after, ok := addressAfter(p); ok {
		elements = append(elements, element{key: string(after.AsSlice()), end: true})
	}
	return elements
}

// addressAfter is the first address behind p; false when p reaches to the end of the address space.
func addressAfter(p netip.Prefix) (netip.Addr, bool) {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(0x80) >> (i % 8)
		b[i/8] ^= bit
		if b[i/8]&bit != 0 {
			after, ok := netip.AddrFromSlice(b)
			return after, ok
		}
	}
	return netip.Addr{}, false
}

// portIntervals are port ranges that neither overlap nor touch as elements of an interval set.
func portIntervals(merged []tables.PortRange) []element {
	var elements []element
	for _, r := range merged {
		elements = append(elements, element{key: portKey(r.First)})
		if r.Last < 65535 {
			elements = append(elements, element{key: portKey(r.Last + 1), end: true})
		}
	}
	return elements
}

func portKey(port uint16) string { return string([]byte{byte(port >> 8), byte(port)}) }
