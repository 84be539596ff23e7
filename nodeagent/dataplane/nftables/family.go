package nftables

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
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

// inUse are the families of a node. One without any IPv6 endpoint needs no IPv6 set and no IPv6 rule: that is half of
// them. Base chains then drop what IPv6 goes to workloads. The first IPv6 endpoint brings everything, and so does the
// first host endpoint, which has no addresses; when the last has gone it stays until everything is compared, so that
// coming and going costs nothing.
type inUse struct {
	v6 bool
}

// needsIPv6 tells whether a node has endpoints that need IPv6 rules.
func needsIPv6(p *tables.Policy) bool {
	if p.HostEndpoints.Len() > 0 {
		return true
	}
	for _, e := range p.Endpoints.All() {
		if hasIPv6(e) {
			return true
		}
	}
	return false
}

func (u inUse) families() []family {
	if u.v6 {
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

func (u inUse) has(f family) bool { return f == ipv4 || u.v6 }

func (f family) digit() string {
	if f == ipv4 {
		return "4"
	}
	return "6"
}

// number is what meta nfproto says.
func (f family) number() byte {
	if f == ipv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// addressLen is the length of an address, bytes.
func (f family) addressLen() uint32 {
	if f == ipv4 {
		return 4
	}
	return 16
}

// addressOffset is where a packet's address lies in the network header.
func (f family) addressOffset(e end) uint32 {
	switch {
	case f == ipv4 && e == source:
		return 12
	case f == ipv4:
		return 16
	case e == source:
		return 8
	}
	return 24
}

// icmp is the family's ICMP.
func (f family) icmp() uint8 {
	if f == ipv4 {
		return unix.IPPROTO_ICMP
	}
	return unix.IPPROTO_ICMPV6
}

// end of a packet.
type end uint8

const (
	source end = iota
	destination
)

// portOffset is where a packet's port lies in the header of TCP, UDP and SCTP.
func (e end) portOffset() uint32 {
	if e == source {
		return 0
	}
	return 2
}

// discoverySources are the sources from which a workload sends neighbour discovery besides its own addresses.
func discoverySources() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10),
		netip.PrefixFrom(netip.IPv6Unspecified(), 128),
	}
}
