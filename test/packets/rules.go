package packets

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// rules: one rule that allows, ingress to the server; everything else is denied.
func rules(t *testing.T, subject Subject) {
	const c, s, o, x = ClientPod, ServerPod, OtherPod, Outside
	for name, tc := range map[string]struct {
		rule   tables.Rule
		probes []Probe
	}{
		"nothing matches all": {tables.Rule{}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, true), UDP(f, c, s, 53, true), SCTP(f, c, s, 9, true), Ping(f, c, s, 0, true), TCP(f, x, s, 1, true)}
		})},
		"IPv4 only": {tables.Rule{IPVersion: 4}, []Probe{TCP(IPv4, c, s, 80, true), TCP(IPv6, c, s, 80, false), Ping(IPv4, c, s, 0, true)}},
		"IPv6 only": {tables.Rule{IPVersion: 6}, []Probe{TCP(IPv4, c, s, 80, false), TCP(IPv6, c, s, 80, true)}},
		"protocol": {tables.Rule{Protocol: protoUDP}, Both(func(f Family) []Probe {
			return []Probe{UDP(f, c, s, 53, true), TCP(f, c, s, 53, false), SCTP(f, c, s, 53, false), Ping(f, c, s, 0, false)}
		})},
		"not protocol": {tables.Rule{NotProtocol: protoTCP}, Both(func(f Family) []Probe {
			return []Probe{UDP(f, c, s, 53, true), TCP(f, c, s, 53, false), SCTP(f, c, s, 53, true), Ping(f, c, s, 0, true)}
		})},
		"ICMP": {tables.Rule{Protocol: protoICMP}, []Probe{Ping(IPv4, c, s, 0, true), Ping(IPv6, c, s, 0, false), TCP(IPv4, c, s, 8, false)}},
		"ICMP type": {tables.Rule{Protocol: protoICMP, ICMP: &tables.ICMP{Type: 8, Code: -1}}, []Probe{
			Ping(IPv4, c, s, 0, true), Ping(IPv4, c, s, 7, true), ICMP(IPv4, c, s, 13, 0, false), Ping(IPv6, c, s, 0, false), TCP(IPv4, c, s, 8, false),
		}},
		"ICMP type and code": {tables.Rule{Protocol: protoICMP, ICMP: &tables.ICMP{Type: 8, Code: 7}}, []Probe{
			Ping(IPv4, c, s, 0, false), Ping(IPv4, c, s, 7, true), ICMP(IPv4, c, s, 13, 7, false),
		}},
		"not ICMP type": {tables.Rule{Protocol: protoICMP, NotICMP: &tables.ICMP{Type: 8, Code: -1}}, []Probe{
			Ping(IPv4, c, s, 0, false), ICMP(IPv4, c, s, 13, 0, true), TCP(IPv4, c, s, 8, false),
		}},
		"not ICMP type and code": {tables.Rule{Protocol: protoICMP, NotICMP: &tables.ICMP{Type: 8, Code: 7}}, []Probe{
			Ping(IPv4, c, s, 0, true), Ping(IPv4, c, s, 7, false), ICMP(IPv4, c, s, 13, 7, true),
		}},
		"ICMPv6 type and code": {tables.Rule{Protocol: unix.IPPROTO_ICMPV6, ICMP: &tables.ICMP{Type: 128, Code: 3}}, []Probe{
			Ping(IPv6, c, s, 0, false), Ping(IPv6, c, s, 3, true), Ping(IPv4, c, s, 3, false),
		}},
		"ICMP type without protocol": {tables.Rule{IPVersion: 6, ICMP: &tables.ICMP{Type: 128, Code: -1}}, []Probe{
			Ping(IPv6, c, s, 0, true), Ping(IPv4, c, s, 0, false), TCP(IPv6, c, s, 128, false),
		}},
		"source net": {tables.Rule{Source: Nets("10.48.0.1/32")}, []Probe{TCP(IPv4, c, s, 80, true), TCP(IPv4, o, s, 80, false), TCP(IPv6, c, s, 80, false)}},
		"source nets of both families": {tables.Rule{Source: Nets("10.48.0.0/31", "192.0.2.0/24", "fd00:48::/126")}, []Probe{
			TCP(IPv4, c, s, 80, true), TCP(IPv4, o, s, 80, false), TCP(IPv4, x, s, 80, true), TCP(IPv6, c, s, 80, true), TCP(IPv6, o, s, 80, true), TCP(IPv6, x, s, 80, false),
		}},
		"source nets that overlap and touch": {tables.Rule{Source: Nets("10.48.0.0/31", "10.48.0.1/32", "10.48.0.2/31", "192.0.0.0/8", "192.0.2.0/24")}, []Probe{
			TCP(IPv4, c, s, 80, true), TCP(IPv4, o, s, 80, true), TCP(IPv4, x, s, 80, true),
		}},
		"all addresses of one Family": {tables.Rule{Source: Nets("0.0.0.0/0")}, []Probe{TCP(IPv4, x, s, 80, true), TCP(IPv6, x, s, 80, false)}},
		"end of the address space":    {tables.Rule{Source: Nets("128.0.0.0/1", "10.48.0.3/32")}, []Probe{TCP(IPv4, x, s, 80, true), TCP(IPv4, o, s, 80, true), TCP(IPv4, c, s, 80, false)}},
		"destination net":             {tables.Rule{Destination: Nets("10.48.0.2/32", "fd00:48::2/128")}, Both(func(f Family) []Probe { return []Probe{TCP(f, c, s, 80, true)} })},
		"other destination net":       {tables.Rule{Destination: Nets("10.48.0.3/32", "fd00:48::3/128")}, Both(func(f Family) []Probe { return []Probe{TCP(f, c, s, 80, false)} })},
		"ends of different families":  {tables.Rule{Source: Nets("10.48.0.1/32"), Destination: Nets("fd00:48::2/128")}, Both(func(f Family) []Probe { return []Probe{TCP(f, c, s, 80, false)} })},
		"not source net":              {tables.Rule{Source: NotNets("10.48.0.1/32")}, []Probe{TCP(IPv4, c, s, 80, false), TCP(IPv4, o, s, 80, true), TCP(IPv6, c, s, 80, true)}},
		"not source nets":             {tables.Rule{Source: NotNets("10.48.0.1/32", "192.0.2.0/24")}, []Probe{TCP(IPv4, c, s, 80, false), TCP(IPv4, x, s, 80, false), TCP(IPv4, o, s, 80, true), TCP(IPv6, c, s, 80, true)}},
		"nets and not nets": {tables.Rule{Source: tables.Entity{Nets: Prefixes("10.48.0.0/30"), NotNets: Prefixes("10.48.0.1/32")}}, []Probe{
			TCP(IPv4, c, s, 80, false), TCP(IPv4, o, s, 80, true), TCP(IPv4, x, s, 80, false), TCP(IPv6, o, s, 80, false),
		}},
		"port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: Ports(80)}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, true), TCP(f, c, s, 81, false), UDP(f, c, s, 80, false)}
		})},
		"SCTP port": {tables.Rule{Protocol: protoSCTP, Destination: tables.Entity{Ports: Ports(80)}}, Both(func(f Family) []Probe {
			return []Probe{SCTP(f, c, s, 80, true), SCTP(f, c, s, 81, false), TCP(f, c, s, 80, false)}
		})},
		"ports and ranges": {tables.Rule{Protocol: protoUDP, Destination: tables.Entity{Ports: []tables.PortRange{{First: 53, Last: 53}, {First: 100, Last: 200}, {First: 150, Last: 250}, {First: 65000, Last: 65535}}}}, Both(func(f Family) []Probe {
			return []Probe{
				UDP(f, c, s, 53, true), UDP(f, c, s, 54, false), UDP(f, c, s, 99, false), UDP(f, c, s, 100, true), UDP(f, c, s, 250, true), UDP(f, c, s, 251, false),
				UDP(f, c, s, 64999, false), UDP(f, c, s, 65535, true), TCP(f, c, s, 53, false),
			}
		})},
		"source port": {tables.Rule{Protocol: protoUDP, Source: tables.Entity{Ports: Ports(777)}}, []Probe{
			Between(IPv4, c, s, netns.Packet{Protocol: protoUDP, SourcePort: 777, Port: 1}, true), UDP(IPv4, c, s, 777, false),
		}},
		"not port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{NotPorts: Ports(80, 443)}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, false), TCP(f, c, s, 443, false), TCP(f, c, s, 81, true), UDP(f, c, s, 81, false)}
		})},
		"ports and not ports": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: []tables.PortRange{{First: 1, Last: 100}}, NotPorts: Ports(80)}}, []Probe{
			TCP(IPv4, c, s, 80, false), TCP(IPv4, c, s, 81, true), TCP(IPv4, c, s, 101, false),
		}},
		"port without protocol": {tables.Rule{Destination: tables.Entity{Ports: Ports(80)}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, true), UDP(f, c, s, 80, true), SCTP(f, c, s, 80, true), TCP(f, c, s, 81, false), Ping(f, c, s, 0, false)}
		})},
		"port of a protocol without ports": {tables.Rule{Protocol: protoICMP, Destination: tables.Entity{Ports: Ports(0)}}, []Probe{Ping(IPv4, c, s, 0, false)}},
		"set": {tables.Rule{Source: tables.Entity{Sets: []string{ClientSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, true), TCP(f, o, s, 80, false), TCP(f, x, s, 80, false)}
		})},
		"set of CIDRs": {tables.Rule{Source: tables.Entity{Sets: []string{NetSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, false), TCP(f, x, s, 80, true)}
		})},
		"two sets": {tables.Rule{Source: tables.Entity{Sets: []string{ClientSet, NetSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, false), TCP(f, x, s, 80, false)}
		})},
		"not set": {tables.Rule{Source: tables.Entity{NotSets: []string{ClientSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, false), TCP(f, o, s, 80, true), TCP(f, x, s, 80, true)}
		})},
		"named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{PortSets: []string{PortsSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 8080, true), TCP(f, c, s, 8081, false), UDP(f, c, s, 8081, false)}
		})},
		"named port of any protocol": {tables.Rule{Destination: tables.Entity{PortSets: []string{PortsSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 8080, true), UDP(f, c, s, 8081, true), UDP(f, c, s, 8080, false)}
		})},
		"port or named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{Ports: Ports(80), PortSets: []string{PortsSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, true), TCP(f, c, s, 8080, true), TCP(f, c, s, 81, false)}
		})},
		"neither port nor named port": {tables.Rule{Protocol: protoTCP, Destination: tables.Entity{NotPorts: Ports(80), NotPortSets: []string{PortsSet}}}, Both(func(f Family) []Probe {
			return []Probe{TCP(f, c, s, 80, false), TCP(f, c, s, 8080, false), TCP(f, c, s, 81, true)}
		})},
		"named source port": {tables.Rule{Protocol: protoTCP, Source: tables.Entity{PortSets: []string{OddSet}}, Destination: tables.Entity{Ports: Ports(80), PortSets: []string{PortsSet}}}, []Probe{
			Between(IPv4, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 80}, true), Between(IPv6, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 8080}, true),
			TCP(IPv4, c, s, 80, false), Between(IPv4, c, s, netns.Packet{Protocol: protoTCP, SourcePort: 999, Port: 81}, false),
		}},
		"everything at once": {tables.Rule{
			IPVersion: 4, Protocol: protoTCP, NotProtocol: protoUDP,
			Source:      tables.Entity{Sets: []string{ClientSet}, NotSets: []string{NetSet}, Nets: Prefixes("10.48.0.0/24"), NotNets: Prefixes("10.48.0.3/32"), NotPorts: Ports(1)},
			Destination: tables.Entity{Nets: Prefixes("10.48.0.2/32"), Ports: Ports(80), PortSets: []string{PortsSet}, NotPorts: Ports(8081)},
		}, []Probe{TCP(IPv4, c, s, 80, true), TCP(IPv4, c, s, 8080, true), TCP(IPv4, o, s, 80, false), TCP(IPv6, c, s, 80, false), TCP(IPv4, c, s, 8081, false)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := NewNode(t, subject)
			p := NewTables()
			AddSets(p)
			rule := tc.rule
			rule.Action = tables.Allow
			p.Programs.Set("p", tables.Program{Ingress: []tables.Rule{rule}, Egress: []tables.Rule{rule}})
			tiers := []tables.Tier{{Name: "default", Programs: []string{"p"}, Default: tables.Deny}}
			e := Unrestricted(ServerPod)
			e.Ingress = tiers
			p.Endpoints.Set(InterfaceOf(ServerPod), e)
			n.Apply(p)
			n.Verify(tc.probes...)

			// The same rule as egress policy of the senders must give the same verdicts. Senders outside have no policy.
			p.Endpoints.Set(InterfaceOf(ServerPod), Unrestricted(ServerPod))
			for _, pod := range []string{ClientPod, OtherPod} {
				e := Unrestricted(pod)
				e.Egress = tiers
				p.Endpoints.Set(InterfaceOf(pod), e)
			}
			n.Apply(p)
			n.Verify(slices.DeleteFunc(slices.Clone(tc.probes), func(k Probe) bool {
				return k.from == Outside || k.packet.SourcePort != 0 // the latter's flow is known by now
			})...)
		})
	}
}
