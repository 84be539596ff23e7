package iptables

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// Probes are read as sentences: from, to, what, whether it arrives. to is both families' where it is not said.

// between makes a packet from one peer to another, of one family.
func between(fam family, from, to string, k netns.Packet, arrives bool) probe {
	k.From, k.To = addresses[from][fam], addresses[to][fam]
	return probe{from: from, to: to, packet: k, arrives: arrives}
}

func tcp(fam family, from, to string, port uint16, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_TCP, Port: port}, arrives)
}

func udp(fam family, from, to string, port uint16, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_UDP, Port: port}, arrives)
}

func sctp(fam family, from, to string, port uint16, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: unix.IPPROTO_SCTP, Port: port}, arrives)
}

// ping is an ICMP echo request with any code.
func ping(fam family, from, to string, code uint8, arrives bool) probe {
	return icmp(fam, from, to, [families]uint8{8, 128}[fam], code, arrives)
}

func icmp(fam family, from, to string, typ, code uint8, arrives bool) probe {
	return between(fam, from, to, netns.Packet{Protocol: fam.icmp(), Type: typ, Code: code}, arrives)
}

// both makes probes of both families.
func both(f func(family) []probe) []probe {
	return append(f(ipv4), f(ipv6)...)
}

func ports(list ...uint16) []tables.PortRange {
	var out []tables.PortRange
	for _, p := range list {
		out = append(out, tables.PortRange{First: p, Last: p})
	}
	return out
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Numbers of protocols.
const (
	protoTCP  = unix.IPPROTO_TCP
	protoUDP  = unix.IPPROTO_UDP
	protoSCTP = unix.IPPROTO_SCTP
	protoICMP = unix.IPPROTO_ICMP
)

// The sets that rules under test name.
const (
	clientSet = "clients"   // Addresses: the client pod
	netSet    = "networks"  // Nets: where the machine outside is, and some more
	portsSet  = "web-ports" // NamedPorts: the server's TCP 8080 and UDP 8081
	oddSet    = "odd-ports" // NamedPorts: the client's TCP 999
)

func addSets(p *tables.Policy) {
	p.Sets.Set(clientSet, tables.Addresses)
	p.Sets.Set(netSet, tables.Nets)
	p.Sets.Set(portsSet, tables.NamedPorts)
	p.Sets.Set(oddSet, tables.NamedPorts)
	for fam := range families {
		p.Members.Set(addressMember(clientSet, addresses[clientPod][fam]), struct{}{})
		p.Members.Set(portMember(portsSet, addresses[serverPod][fam], protoTCP, 8080), struct{}{})
		p.Members.Set(portMember(portsSet, addresses[serverPod][fam], protoUDP, 8081), struct{}{})
		p.Members.Set(portMember(oddSet, addresses[clientPod][fam], protoTCP, 999), struct{}{})
	}
	for _, cidr := range []string{"192.0.2.0/24", "192.0.2.8/29", "198.51.100.0/24", "2001:db8::/32", "2001:db8::9/128"} {
		p.Members.Set(tables.Member{Set: netSet, Prefix: netip.MustParsePrefix(cidr)}, struct{}{})
	}
}

func addressMember(set string, a netip.Addr) tables.Member {
	return tables.Member{Set: set, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

func portMember(set string, a netip.Addr, protocol uint8, port uint16) tables.Member {
	return tables.Member{Set: set, Prefix: netip.PrefixFrom(a, a.BitLen()), Protocol: protocol, Port: port}
}

func nets(list ...string) tables.Entity    { return tables.Entity{Nets: prefixes(list...)} }
func notNets(list ...string) tables.Entity { return tables.Entity{NotNets: prefixes(list...)} }

// TestRules: one rule that allows, ingress to the server; everything else is denied.
func TestRules(t *testing.T) { eachVariant(t, testRules) }

func testRules(t *testing.T, variant Variant) {
	const c, s, o, x = clientPod, serverPod, otherPod, outside
	for name, tc := range map[string]struct {
		rule   tables.Rule
		probes []probe
	}{
		"nothing matches all": {tables.Rule{}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, true), udp(f, c, s, 53, true), sctp(f, c, s, 9, true), ping(f, c, s, 0, true), tcp(f, x, s, 1, true)}
		})},
		"IPv4 only": {tables.Rule{IPVersion: 4}, []probe{tcp(ipv4, c, s, 80, true), tcp(ipv6, c, s, 80, false), ping(ipv4, c, s, 0, true)}},
		"IPv6 only": {tables.Rule{IPVersion: 6}, []probe{tcp(ipv4, c, s, 80, false), tcp(ipv6, c, s, 80, true)}},
		"protocol": {tables.Rule{Protocol: protoUDP}, both(func(f family) []probe {
			return []probe{udp(f, c, s, 53, true), tcp(f, c, s, 53, false), sctp(f, c, s, 53, false), ping(f, c, s, 0, false)}
		})},
		"not protocol": {tables.Rule{NotProtocol: protoTCP}, both(func(f family) []probe {
			return []probe{udp(f, c, s, 53, true), tcp(f, c, s, 53, false), sctp(f, c, s, 53, true), ping(f, c, s, 0, true)}
		})},
		"ICMP": {tables.Rule{Protocol: protoICMP}, []probe{ping(ipv4, c, s, 0, true), ping(ipv6, c, s, 0, false), tcp(ipv4, c, s, 8, false)}},
		"ICMP type": {tables.Rule{Protocol: protoICMP, ICMP: &tables.ICMP{Type: 8, Code: -1}}, []probe{
			ping(ipv4, c, s, 0, true), ping(ipv4, c, s, 7, true), icmp(ipv4, c, s, 13, 0, false), ping(ipv6, c, s, 0, false), tcp(ipv4, c, s, 8, false),
		}},
		"ICMP type and code": {tables.Rule{Protocol: protoICMP, ICMP: &tables.ICMP{Type: 8, Code: 7}}, []probe{
			ping(ipv4, c, s, 0, false), ping(ipv4, c, s, 7, true), icmp(ipv4, c, s, 13, 7, false),
		}},
		"not ICMP type": {tables.Rule{Protocol: protoICMP, NotICMP: &tables.ICMP{Type: 8, Code: -1}}, []probe{
			ping(ipv4, c, s, 0, false), icmp(ipv4, c, s, 13, 0, true), tcp(ipv4, c, s, 8, false),
		}},
		"not ICMP type and code": {tables.Rule{Protocol: protoICMP, NotICMP: &tables.ICMP{Type: 8, Code: 7}}, []probe{
			ping(ipv4, c, s, 0, true), ping(ipv4, c, s, 7, false), icmp(ipv4, c, s, 13, 7, true),
		}},
		"ICMPv6 type and code": {tables.Rule{Protocol: unix.IPPROTO_ICMPV6, ICMP: &tables.ICMP{Type: 128, Code: 3}}, []probe{
			ping(ipv6, c, s, 0, false), ping(ipv6, c, s, 3, true), ping(ipv4, c, s, 3, false),
		}},
		"ICMP type without protocol": {tables.Rule{IPVersion: 6, ICMP: &tables.ICMP{Type: 128, Code: -1}}, []probe{
			ping(ipv6, c, s, 0, true), ping(ipv4, c, s, 0, false), tcp(ipv6, c, s, 128, false),
		}},
		"source net": {tables.Rule{Source: nets("10.48.0.1/32")}, []probe{tcp(ipv4, c, s, 80, true), tcp(ipv4, o, s, 80, false), tcp(ipv6, c, s, 80, false)}},
		"source nets of both families": {tables.Rule{Source: nets("10.48.0.0/31", "192.0.2.0/24", "fd00:48::/126")}, []probe{
			tcp(ipv4, c, s, 80, true), tcp(ipv4, o, s, 80, false), tcp(ipv4, x, s, 80, true), tcp(ipv6, c, s, 80, true), tcp(ipv6, o, s, 80, true), tcp(ipv6, x, s, 80, false),
		}},
		"source nets that overlap and touch": {tables.Rule{Source: nets("10.48.0.0/31", "10.48.0.1/32", "10.48.0.2/31", "192.0.0.0/8", "192.0.2.0/24")}, []probe{
			tcp(ipv4, c, s, 80, true), tcp(ipv4, o, s, 80, true), tcp(ipv4, x, s, 80, true),
		}},
		"all addresses of one family": {tables.Rule{Source: nets("0.0.0.0/0")}, []probe{tcp(ipv4, x, s, 80, true), tcp(ipv6, x, s, 80, false)}},
		"end of the address space":    {tables.Rule{Source: nets("128.0.0.0/1", "10.48.0.3/32")}, []probe{tcp(ipv4, x, s, 80, true), tcp(ipv4, o, s, 80, true), tcp(ipv4, c, s, 80, false)}},
		"destination net":             {tables.Rule{Destination: nets("10.48.0.2/32", "fd00:48::2/128")}, both(func(f family) []probe { return []probe{tcp(f, c, s, 80, true)} })},
		"other destination net":       {tables.Rule{Destination: nets("10.48.0.3/32", "fd00:48::3/128")}, both(func(f family) []probe { return []probe{tcp(f, c, s, 80, false)} })},
		"ends of different families":  {tables.Rule{Source: nets("10.48.0.1/32"), Destination: nets("fd00:48::2/128")}, both(func(f family) []probe { return []probe{tcp(f, c, s, 80, false)} })},
		"not source net":              {tables.Rule{Source: notNets("10.48.0.1/32")}, []probe{tcp(ipv4, c, s, 80, false), tcp(ipv4, o, s, 80, true), tcp(ipv6, c, s, 80, true)}},
		"not source nets":             {tables.Rule{Source: notNets("10.48.0.1/32", "192.0.2.0/24")}, []probe{tcp(ipv4, c, s, 80, false), tcp(ipv4, x, s, 80, false), tcp(ipv4, o, s, 80, true), tcp(ipv6, c, s, 80, true)}},
		"nets and not nets": {tables.Rule{Source: tables.Entity{Nets: prefixes("10.48.0.0/30"), NotNets: prefixes("10.48.0.1/32")}}, []probe{
			tcp(ipv4, c, s, 80, false), tcp(ipv4, o, s, 80, true), tcp(ipv4, x, s, 80, false), tcp(ipv6, o, s, 80, false),
		}},
		"port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: ports(80)}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, true), tcp(f, c, s, 81, false), udp(f, c, s, 80, false)}
		})},
		"SCTP port": {tables.Rule{Protocol: protoSCTP, Destination: tables.Entity{Ports: ports(80)}}, both(func(f family) []probe {
			return []probe{sctp(f, c, s, 80, true), sctp(f, c, s, 81, false), tcp(f, c, s, 80, false)}
		})},
		"ports and ranges": {tables.Rule{Protocol: protoUDP, Destination: tables.Entity{Ports: []tables.PortRange{{First: 53, Last: 53}, {First: 100, Last: 200}, {First: 150, Last: 250}, {First: 65000, Last: 65535}}}}, both(func(f family) []probe {
			return []probe{
				udp(f, c, s, 53, true), udp(f, c, s, 54, false), udp(f, c, s, 99, false), udp(f, c, s, 100, true), udp(f, c, s, 250, true), udp(f, c, s, 251, false),
				udp(f, c, s, 64999, false), udp(f, c, s, 65535, true), tcp(f, c, s, 53, false),
			}
		})},
		"source port": {tables.Rule{Protocol: protoUDP, Source: tables.Entity{Ports: ports(777)}}, []probe{
			between(ipv4, c, s, netns.Packet{Protocol: protoUDP, SourcePort: 777, Port: 1}, true), udp(ipv4, c, s, 777, false),
		}},
		"not port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{NotPorts: ports(80, 443)}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, false), tcp(f, c, s, 443, false), tcp(f, c, s, 81, true), udp(f, c, s, 81, false)}
		})},
		"ports and not ports": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: []tables.PortRange{{First: 1, Last: 100}}, NotPorts: ports(80)}}, []probe{
			tcp(ipv4, c, s, 80, false), tcp(ipv4, c, s, 81, true), tcp(ipv4, c, s, 101, false),
		}},
		"port without protocol": {tables.Rule{Destination: tables.Entity{Ports: ports(80)}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, true), udp(f, c, s, 80, true), sctp(f, c, s, 80, true), tcp(f, c, s, 81, false), ping(f, c, s, 0, false)}
		})},
		"port of a protocol without ports": {tables.Rule{Protocol: protoICMP, Destination: tables.Entity{Ports: ports(0)}}, []probe{ping(ipv4, c, s, 0, false)}},
		"set": {tables.Rule{Source: tables.Entity{Sets: []string{clientSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, true), tcp(f, o, s, 80, false), tcp(f, x, s, 80, false)}
		})},
		"set of CIDRs": {tables.Rule{Source: tables.Entity{Sets: []string{netSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, false), tcp(f, x, s, 80, true)}
		})},
		"two sets": {tables.Rule{Source: tables.Entity{Sets: []string{clientSet, netSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, false), tcp(f, x, s, 80, false)}
		})},
		"not set": {tables.Rule{Source: tables.Entity{NotSets: []string{clientSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, false), tcp(f, o, s, 80, true), tcp(f, x, s, 80, true)}
		})},
		"named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{PortSets: []string{portsSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 8080, true), tcp(f, c, s, 8081, false), udp(f, c, s, 8081, false)}
		})},
		"named port of any protocol": {tables.Rule{Destination: tables.Entity{PortSets: []string{portsSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 8080, true), udp(f, c, s, 8081, true), udp(f, c, s, 8080, false)}
		})},
		"port or named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: ports(80), PortSets: []string{portsSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, true), tcp(f, c, s, 8080, true), tcp(f, c, s, 81, false)}
		})},
		"neither port nor named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{NotPorts: ports(80), NotPortSets: []string{portsSet}}}, both(func(f family) []probe {
			return []probe{tcp(f, c, s, 80, false), tcp(f, c, s, 8080, false), tcp(f, c, s, 81, true)}
		})},
		"named source port": {tables.Rule{Protocol: protoTCP, Source: tables.Entity{PortSets: []string{oddSet}}, Destination: tables.Entity{Ports: ports(80), PortSets: []string{portsSet}}}, []probe{
			between(ipv4, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 80}, true), between(ipv6, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 8080}, true),
			tcp(ipv4, c, s, 80, false), between(ipv4, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 81}, false),
		}},
		"everything at once": {tables.Rule{
			IPVersion: 4, Protocol: protoTCP, NotProtocol: protoUDP,
			Source:      tables.Entity{Sets: []string{clientSet}, NotSets: []string{netSet}, Nets: prefixes("10.48.0.0/24"), NotNets: prefixes("10.48.0.3/32"), NotPorts: ports(1)},
			Destination: tables.Entity{Nets: prefixes("10.48.0.2/32"), Ports: ports(80), PortSets: []string{portsSet}, NotPorts: ports(8081)},
		}, []probe{tcp(ipv4, c, s, 80, true), tcp(ipv4, c, s, 8080, true), tcp(ipv4, o, s, 80, false), tcp(ipv6, c, s, 80, false), tcp(ipv4, c, s, 8081, false)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, variant)
			p := newTables()
			addSets(p)
			rule := tc.rule
			rule.Action = tables.Allow
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{rule}, Egress: []tables.Rule{rule}})
			tiers := []tables.Tier{{Name: "default", Programs: []string{"p"}, Default: tables.Deny}}
			e := unrestricted(serverPod)
			e.Ingress = tiers
			p.Endpoints.Set(interfaceOf(serverPod), e)
			n.apply(p)
			n.verify(tc.probes...)

			// The same rule as egress policy of the senders must give the same verdicts. Senders outside have no policy.
			p.Endpoints.Set(interfaceOf(serverPod), unrestricted(serverPod))
			for _, pod := range []string{clientPod, otherPod} {
				e := unrestricted(pod)
				e.Egress = tiers
				p.Endpoints.Set(interfaceOf(pod), e)
			}
			n.apply(p)
			n.verify(slices.DeleteFunc(slices.Clone(tc.probes), func(k probe) bool {
				return k.from == outside || k.packet.SourcePort != 0 // the latter's flow is known by now
			})...)
		})
	}
}
