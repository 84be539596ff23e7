package iptables

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// family of addresses.
type family uint8

const (
	ipv4 family = iota
	ipv6
	families
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

func (f family) digit() string {
	if f == ipv4 {
		return "4"
	}
	return "6"
}

// number is the family's in netlink.
func (f family) number() byte {
	if f == ipv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// icmp is the family's ICMP.
func (f family) icmp() uint8 {
	if f == ipv4 {
		return unix.IPPROTO_ICMP
	}
	return unix.IPPROTO_ICMPV6
}

func ofFamily(nets []netip.Prefix, fam family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range nets {
		if familyOf(p.Addr()) == fam {
			out = append(out, p)
		}
	}
	return out
}

// direction of policy, as seen from the endpoint.
type direction uint8

const (
	ingress direction = iota
	egress
	directions
)

// letter tells the direction in names of chains.
func (d direction) letter() string {
	if d == ingress {
		return "i"
	}
	return "e"
}
