package bgp

import (
	"net"
	"net/netip"
	"path"
	"strings"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/manul-net/manul/nodeagent/tables"
)

func isLarge(community string) bool { return strings.Count(community, ":") == 2 }

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// networks are those of the node's interfaces, in order.
func networks() []network {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []network
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() && !p.IsSingleIP() {
				out = append(out, network{name: i.Name, prefix: p.Masked()})
			}
		}
	}
	return out
}

// prefixesOf gives the prefixes that a rule matches, nil for all of its family, or tells that it can match none. The speaker
// looks only at the most specific one that a route lies in, so they are made to not overlap but where that does no harm.
func prefixesOf(rule *tables.BGPRule) (list []*api.Prefix, possible bool) {
	bits := 32
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if rule.IPv6 {
		bits, everything = 128, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	low, high := int(rule.MinLength), int(rule.MaxLength)
	add := func(p netip.Prefix, from, to int) {
		if from, to := max(from, low), min(to, high); from <= to {
			list = append(list, lengths(p, from, to))
		}
	}
	cidr, length := rule.CIDR, rule.CIDR.Bits()
	switch rule.Operator {
	case tables.AnyPrefix:
		if low == 0 && high == bits {
			return nil, true
		}
		add(everything, 0, bits)
	case tables.EqualPrefix:
		add(cidr, length, length)
	case tables.InPrefix:
		add(cidr, length, bits)
	case tables.NotEqualPrefix, tables.NotInPrefix:
		for depth := range length {
			ancestor, _ := cidr.Addr().Prefix(depth)
			add(ancestor, depth, depth)
			add(sibling(cidr, depth+1), depth+1, bits)
		}
		if rule.Operator == tables.NotEqualPrefix {
			add(cidr, length+1, bits)
		}
	}
	return list, len(list) > 0
}

// sibling is the prefix of a length that shares all but the last bit with an address's.
func sibling(p netip.Prefix, length int) netip.Prefix {
	raw := p.Addr().AsSlice()
	raw[(length-1)/8] ^= 0x80 >> ((length - 1) % 8)
	addr, _ := netip.AddrFromSlice(raw)
	out, _ := addr.Prefix(length)
	return out
}
