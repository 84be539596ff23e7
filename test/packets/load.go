package packets

import (
	"fmt"
	"net/netip"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Load makes tables with n programs of four rules each, one set for each, and 100 endpoints. Every endpoint falls under
// three programs; where all is true, each program selects some endpoint, else only the first ten do.
func Load(n int, all bool) *tables.Policy {
	p := tables.NewPolicy()
	p.Settings.EndpointToHost, p.SettingsDirty = tables.HostAccept, true
	for i := range n {
		set := fmt.Sprintf("set-%d", i)
		p.Sets.Set(set, tables.Addresses)
		for j := range 4 {
			p.Members.Set(tables.Member{Set: set, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 32)}, struct{}{})
		}
		p.Programs.Set(LoadName(i), LoadProgram(i, 80))
	}
	const endpoints = 100
	for e := range endpoints {
		reach := min(n, 10)
		if all {
			reach = n
		}
		var programs []string
		for k := range 3 {
			programs = append(programs, LoadName((e*reach/endpoints+k)%reach))
		}
		if all {
			for k := e; k < n; k += endpoints {
				programs = append(programs, LoadName(k))
			}
		}
		p.Endpoints.Set(fmt.Sprintf("cali%d", e), tables.Endpoint{
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 48, 0, byte(e)})},
			Ingress:   []tables.Tier{{Name: "default", Programs: programs, Default: tables.Deny}},
		})
	}
	return p
}

// LoadName is the name of one of Load's programs.
func LoadName(i int) string { return fmt.Sprintf("np.namespace-%d.policy-%d", i/10, i) }

// LoadProgram is one of Load's programs, with a port that may be another one.
func LoadProgram(i int, port uint16) tables.Program {
	set := []string{fmt.Sprintf("set-%d", i)}
	return tables.Program{Ingress: []tables.Rule{
		{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: set}, Destination: tables.Entity{Ports: Ports(port)}},
		{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: set}, Destination: tables.Entity{Ports: Ports(443, 8443)}},
		{Action: tables.Allow, Protocol: protoUDP, Source: tables.Entity{Nets: Prefixes("10.0.0.0/8", "172.16.0.0/12")}, Destination: tables.Entity{Ports: Ports(53)}},
		{Action: tables.Deny, Source: tables.Entity{NotSets: set}},
	}}
}
