package fold

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// What folds, rule by rule.
func TestWhatFolds(t *testing.T) {
	p := tables.NewPolicy()
	p.Sets.Set("small", tables.Addresses)
	p.Sets.Set("nets", tables.Nets)
	p.Sets.Set("great", tables.Addresses)
	p.Sets.Set("ports", tables.NamedPorts)
	kinds := func(id string) (tables.SetType, bool) {
		typ, _ := p.Sets.Get(id)
		return typ, id != "great"
	}
	from := func(sets ...string) tables.Entity { return tables.Entity{Sets: sets} }
	to := func(ports ...tables.PortRange) tables.Entity { return tables.Entity{Ports: ports} }
	one := tables.PortRange{First: 80, Last: 80}
	for name, tc := range map[string]struct {
		rules []tables.Rule
		want  class
		terms int
	}{
		"nothing":                       {nil, empty, 0},
		"all":                           {[]tables.Rule{{}}, foldable, 2},
		"a set":                         {[]tables.Rule{{Source: from("small")}}, foldable, 1},
		"a set of CIDRs":                {[]tables.Rule{{Source: from("nets")}}, foldable, 1},
		"a set, two ports":              {[]tables.Rule{{Protocol: 6, Source: from("small"), Destination: to(tables.PortRange{First: 80, Last: 81})}}, foldable, 2},
		"a port of any protocol":        {[]tables.Rule{{Source: from("small"), Destination: to(one)}}, foldable, 3},
		"the same port twice":           {[]tables.Rule{{Protocol: 6, Source: from("small"), Destination: to(one, one)}}, foldable, 1},
		"ports that no packet has":      {[]tables.Rule{{Protocol: 6, Destination: to(tables.PortRange{First: 2, Last: 1})}}, foldable, 0},
		"ports of ICMP":                 {[]tables.Rule{{Protocol: 1, Destination: to(one)}}, foldable, 0},
		"two rules":                     {[]tables.Rule{{Source: from("small")}, {Source: from("nets")}}, foldable, 2},
		"CIDRs":                         {[]tables.Rule{{Source: tables.Entity{Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}}, foldable, 2},
		"a great set":                   {[]tables.Rule{{Source: from("great")}}, allowing, 0},
		"a set of ports as peers":       {[]tables.Rule{{Source: from("ports")}}, allowing, 0},
		"a set that does not exist":     {[]tables.Rule{{Source: from("none")}}, allowing, 0},
		"two sets":                      {[]tables.Rule{{Source: from("small", "nets")}}, allowing, 0},
		"named ports":                   {[]tables.Rule{{Destination: tables.Entity{PortSets: []string{"ports"}}}}, allowing, 0},
		"source ports":                  {[]tables.Rule{{Source: to(one)}}, allowing, 0},
		"many ports":                    {[]tables.Rule{{Protocol: 6, Destination: to(tables.PortRange{First: 1, Last: 1000})}}, allowing, 0},
		"port 0":                        {[]tables.Rule{{Protocol: 6, Destination: to(tables.PortRange{})}}, allowing, 0},
		"not a set":                     {[]tables.Rule{{Source: tables.Entity{NotSets: []string{"small"}}}}, allowing, 0},
		"not a port":                    {[]tables.Rule{{Destination: tables.Entity{NotPorts: []tables.PortRange{one}}}}, allowing, 0},
		"not a protocol":                {[]tables.Rule{{NotProtocol: 6}}, allowing, 0},
		"ICMP types":                    {[]tables.Rule{{ICMP: &tables.ICMP{Type: 8}}}, allowing, 0},
		"who it is to":                  {[]tables.Rule{{Destination: from("small")}}, allowing, 0},
		"one rule of two":               {[]tables.Rule{{}, {Source: from("great")}}, allowing, 0},
		"Deny":                          {[]tables.Rule{{Source: from("small")}, {Action: tables.Deny}}, barrier, 0},
		"Pass":                          {[]tables.Rule{{Action: tables.Pass}}, barrier, 0},
		"Log":                           {[]tables.Rule{{Action: tables.Log}, {}}, barrier, 0},
		"what is no action of a rule's": {[]tables.Rule{{Action: 9}}, barrier, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range tc.rules {
				if tc.rules[i].Action == 0 {
					tc.rules[i].Action = tables.Allow
				}
			}
			got, terms := classify(Ingress, tc.rules, kinds)
			if got != tc.want || len(terms) != tc.terms {
				t.Errorf("class %d with %d terms, want class %d with %d", got, len(terms), tc.want, tc.terms)
			}
		})
	}
}

// One more policy changes one fold: all others are what they were.
func TestOneMorePolicyIsOneFold(t *testing.T) {
	n := newNode(DefaultLimits(), ShapeByFields)
	var names []string
	add := func(i int) {
		name := fmt.Sprintf("np.team.policy-%05d", i)
		names = append(names, name)
		n.desired.Programs.Set(name, tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Protocol: 6, Source: tables.Entity{Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)}}}}})
		n.desired.Endpoints.Set(workload, tables.Endpoint{Ingress: []tables.Tier{{Programs: slices.Clone(names), Default: tables.Deny}}})
	}
	for i := range 5000 {
		add(i)
	}
	n.settle()
	steps := len(n.folder.tiers[tierName(Ingress, tables.Tier{Programs: names})].steps)
	if steps < 10 || steps > 60 {
		t.Errorf("5,000 policies are %d folds, want about 20", steps)
	}
	for i := 5000; i < 5050; i++ {
		before := maps.Clone(n.kernel)
		add(i)
		n.settle()
		fresh := 0
		for name, elements := range n.kernel {
			if before[name] == nil {
				fresh += len(elements)
			}
		}
		if fresh > 2*4*DefaultLimits().MeanChunk {
			t.Errorf("policy %d made folds of %d elements anew", i, fresh)
		}
	}
}
