package packets

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Words by which tables are written down.

// Numbers of protocols.
const (
	protoTCP  = unix.IPPROTO_TCP
	protoUDP  = unix.IPPROTO_UDP
	protoSCTP = unix.IPPROTO_SCTP
	protoICMP = unix.IPPROTO_ICMP
)

// Ports are single ports.
func Ports(list ...uint16) []tables.PortRange {
	var out []tables.PortRange
	for _, p := range list {
		out = append(out, tables.PortRange{First: p, Last: p})
	}
	return out
}

// Prefixes parses CIDRs.
func Prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Nets is an end of a packet in one of the CIDRs.
func Nets(list ...string) tables.Entity { return tables.Entity{Nets: Prefixes(list...)} }

// NotNets is an end of a packet in none of the CIDRs.
func NotNets(list ...string) tables.Entity { return tables.Entity{NotNets: Prefixes(list...)} }

// Rule is one about a protocol (0: any) and ports of the destination (none: any).
func Rule(action tables.Action, protocol uint8, port ...uint16) tables.Rule {
	return tables.Rule{Action: action, Protocol: protocol, Destination: tables.Entity{Ports: Ports(port...)}}
}

// Tier is a tier with a default action.
func Tier(fallback tables.Action, programs ...string) tables.Tier {
	return tables.Tier{Name: "t", Programs: programs, Default: fallback}
}

// NewTables are tables with all pods as endpoints, without restriction.
func NewTables() *tables.Policy {
	p := tables.NewPolicy()
	for _, pod := range Pods() {
		p.Endpoints.Set(InterfaceOf(pod), Unrestricted(pod))
	}
	p.Settings.EndpointToHost = tables.HostAccept
	p.SettingsDirty = true
	return p
}

// Unrestricted is a pod without policies.
func Unrestricted(pod string) tables.Endpoint {
	return tables.Endpoint{Addresses: []netip.Addr{Address(pod, IPv4), Address(pod, IPv6)}}
}

// The sets that rules under test name.
const (
	ClientSet = "clients"   // Addresses: the client pod
	NetSet    = "networks"  // Nets: where the machine outside is, and some more
	PortsSet  = "web-ports" // NamedPorts: the server's TCP 8080 and UDP 8081
	OddSet    = "odd-ports" // NamedPorts: the client's TCP 999
)

// AddSets adds the sets that rules under test name.
func AddSets(p *tables.Policy) {
	p.Sets.Set(ClientSet, tables.Addresses)
	p.Sets.Set(NetSet, tables.Nets)
	p.Sets.Set(PortsSet, tables.NamedPorts)
	p.Sets.Set(OddSet, tables.NamedPorts)
	for fam := range Families {
		p.Members.Set(AddressMember(ClientSet, Address(ClientPod, fam)), struct{}{})
		p.Members.Set(portMember(PortsSet, Address(ServerPod, fam), protoTCP, 8080), struct{}{})
		p.Members.Set(portMember(PortsSet, Address(ServerPod, fam), protoUDP, 8081), struct{}{})
		p.Members.Set(portMember(OddSet, Address(ClientPod, fam), protoTCP, 999), struct{}{})
	}
	for _, cidr := range []string{"192.0.2.0/24", "192.0.2.8/29", "198.51.100.0/24", "2001:db8::/32", "2001:db8::9/128"} {
		p.Members.Set(Member(NetSet, cidr), struct{}{})
	}
}

// AddressMember is an address in a set.
func AddressMember(set string, a netip.Addr) tables.Member {
	return tables.Member{Set: set, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// Member is a CIDR in a set.
func Member(set, cidr string) tables.Member {
	return tables.Member{Set: set, Prefix: netip.MustParsePrefix(cidr)}
}

func portMember(set string, a netip.Addr, protocol uint8, port uint16) tables.Member {
	return tables.Member{Set: set, Prefix: netip.PrefixFrom(a, a.BitLen()), Protocol: protocol, Port: port}
}

// OnlyFrom makes tables in which the server takes TCP from members of a set only.
func OnlyFrom(set string, typ tables.SetType) *tables.Policy {
	p := NewTables()
	p.Sets.Set(set, typ)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: []string{set}}}}})
	e := Unrestricted(ServerPod)
	e.Ingress = []tables.Tier{Tier(tables.Deny, "in")}
	p.Endpoints.Set(InterfaceOf(ServerPod), e)
	return p
}

// ManyThings are tables with something of everything.
func ManyThings() *tables.Policy {
	p := NewTables()
	AddSets(p)
	for i := range 20 {
		p.Programs.Set(fmt.Sprintf("np.ns.policy-%d", i), tables.Program{
			Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: []string{ClientSet}, Nets: Prefixes("10.48.0.0/30", "fd00:48::/64", "10.50.0.0/16")}, Destination: tables.Entity{Ports: Ports(80, uint16(1000+i)), PortSets: []string{PortsSet}}}},
			Egress:  []tables.Rule{{Action: tables.Pass, Source: tables.Entity{NotSets: []string{NetSet}}}, {Action: tables.Deny}},
		})
	}
	for i, pod := range Pods() {
		e := Unrestricted(pod)
		e.Ingress = []tables.Tier{Tier(tables.Pass, fmt.Sprintf("np.ns.policy-%d", i)), Tier(tables.Deny, "np.ns.policy-7", "np.ns.policy-8")}
		e.Egress = []tables.Tier{Tier(tables.Deny, "np.ns.policy-9")}
		p.Endpoints.Set(InterfaceOf(pod), e)
	}
	for i := range 40 {
		p.Endpoints.Set(fmt.Sprintf("cali%x", i*0x1f351%0xfffff), tables.Endpoint{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 48, 1, byte(i)})}})
	}
	p.Pools.Set(netip.MustParsePrefix("10.48.0.0/16"), tables.Pool{NATOutgoing: true})
	p.Pools.Set(netip.MustParsePrefix("fd00:48::/48"), tables.Pool{})
	return p
}
