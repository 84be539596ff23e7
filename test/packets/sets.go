package packets

import (
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

func membersComeAndGo(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := OnlyFrom("s", tables.Addresses)
	n.Apply(p)
	expect := func(client, other bool) {
		t.Helper()
		n.Verify(Both(func(f Family) []Probe {
			return []Probe{TCP(f, ClientPod, ServerPod, 80, client), TCP(f, OtherPod, ServerPod, 80, other)}
		})...)
		n.SameAsFresh(p)
	}
	set := func(pod string, in bool) {
		for fam := range Families {
			if m := AddressMember("s", Address(pod, fam)); in {
				p.Members.Set(m, struct{}{})
			} else {
				p.Members.Delete(m)
			}
		}
	}
	expect(false, false)
	set(ClientPod, true)
	n.Apply(p)
	expect(true, false)
	set(ClientPod, false)
	set(OtherPod, true)
	n.Apply(p)
	expect(false, true)
	set(ClientPod, true) // there and gone before anyone looks
	set(ClientPod, false)
	set(OtherPod, false)
	set(OtherPod, true)
	n.Apply(p)
	expect(false, true)
}

// A member of a set of CIDRs may lie within another, come before or after it, and stay when the other goes.
func overlappingNets(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := OnlyFrom("s", tables.Nets)
	for _, step := range []struct {
		add, remove   []string
		client, other bool // 10.48.0.1 and 10.48.0.3
	}{
		{add: []string{"10.48.0.1/32"}, client: true},
		{add: []string{"10.48.0.0/16"}, client: true, other: true},
		{add: []string{"10.48.0.0/24", "10.48.0.2/31"}, client: true, other: true},
		{remove: []string{"10.48.0.0/16"}, client: true, other: true},
		{remove: []string{"10.48.0.0/24"}, client: true, other: true},
		{remove: []string{"10.48.0.1/32"}, other: true},
		{add: []string{"0.0.0.0/0", "10.48.0.1/32"}, remove: []string{"10.48.0.2/31"}, client: true, other: true},
		{add: []string{"10.48.0.3/32"}, remove: []string{"0.0.0.0/0"}, client: true, other: true},
		{add: []string{"240.0.0.0/4", "255.255.255.255/32"}, remove: []string{"10.48.0.1/32"}, other: true},
		{add: []string{"0.0.0.0/1", "128.0.0.0/1"}, remove: []string{"240.0.0.0/4", "10.48.0.3/32"}, client: true, other: true},
		{add: []string{"0.0.0.0/0"}, client: true, other: true},
		{remove: []string{"0.0.0.0/1"}, client: true, other: true}, // its half of all addresses stays
		{add: []string{"0.0.0.0/1"}, remove: []string{"0.0.0.0/0"}, client: true, other: true},
		{remove: []string{"0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32"}},
	} {
		for _, cidr := range step.add {
			p.Members.Set(Member("s", cidr), struct{}{})
		}
		for _, cidr := range step.remove {
			p.Members.Delete(Member("s", cidr))
		}
		n.Apply(p)
		n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, step.client), TCP(IPv4, OtherPod, ServerPod, 80, step.other))
		n.SameAsFresh(p)
	}
}

// A set may change its type; members that wait for their set come with it.
func setsChange(t *testing.T, subject Subject) {
	n := NewNode(t, subject)
	p := OnlyFrom("s", tables.Addresses)
	p.Members.Set(Member("s", "10.48.0.1/32"), struct{}{})
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true), TCP(IPv4, OtherPod, ServerPod, 80, false))

	p.Sets.Set("s", tables.Nets)
	p.Members.Set(Member("s", "10.48.0.2/31"), struct{}{})
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true), TCP(IPv4, OtherPod, ServerPod, 80, true))
	n.SameAsFresh(p)

	p.Members.Delete(Member("s", "10.48.0.2/31"))
	p.Sets.Set("s", tables.Addresses)
	p.Members.Set(Member("later", "10.48.0.3/32"), struct{}{}) // its set does not exist yet
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true), TCP(IPv4, OtherPod, ServerPod, 80, false))

	p.Sets.Set("later", tables.Addresses)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"later"}}}}})
	p.Sets.Delete("s") // its members stay in the table
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, false), TCP(IPv4, OtherPod, ServerPod, 80, true))
	n.SameAsFresh(p)

	p.Sets.Set("s", tables.Addresses)
	p.Programs.Set("in", tables.Program{Ingress: []tables.Rule{{Action: tables.Allow, Source: tables.Entity{Sets: []string{"s"}}}}})
	n.Apply(p)
	n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, true), TCP(IPv4, OtherPod, ServerPod, 80, false))
	n.SameAsFresh(p)
}
