package packets

import (
	"fmt"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Each of many policies in a tier decides about its own port, wherever in the tier it is, and what is behind it has no say.
func longTiers(t *testing.T, subject Subject) {
	const programs = 40
	type way struct {
		action  tables.Action
		other   tables.Action // what all behind it would do
		arrives bool
	}
	ways := []way{{tables.Allow, tables.Deny, true}, {tables.Deny, tables.Allow, false}, {tables.Pass, tables.Deny, true}}
	n := NewNode(t, subject)
	p := NewTables()
	var names []string
	var probes []Probe
	add := func(name string, rules ...tables.Rule) {
		p.Programs.Set(name, tables.Program{Ingress: rules})
		names = append(names, name)
	}
	for i := range programs {
		port, w := uint16(1000+i), ways[i%len(ways)]
		rules := []tables.Rule{Rule(w.action, protoTCP, port)}
		if i > 0 { // the one before decided already
			rules = append(rules, Rule(ways[(i-1)%len(ways)].other, protoTCP, port-1))
		}
		if i%5 == 0 {
			rules = append(rules, Rule(tables.Log, protoTCP, port+1))
		}
		add(fmt.Sprintf("policy-%02d", i), rules...)
		for fam := range Families {
			probes = append(probes, TCP(fam, ClientPod, ServerPod, port, w.arrives))
		}
	}
	add("all-behind", Rule(tables.Allow, protoTCP, 2000))
	probes = append(probes, TCP(IPv4, ClientPod, ServerPod, 2000, true), TCP(IPv4, ClientPod, ServerPod, 2001, false))
	p.Programs.Set("next-tier", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: protoTCP}}})
	server := Unrestricted(ServerPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, names...), Tier(tables.Deny, "next-tier")}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	n.Apply(p)
	n.Verify(probes...)
	n.SameAsFresh(p)
}
