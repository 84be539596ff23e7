package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
)

// ManyName is the name of one of ManyPolicies.
func ManyName(i int) string { return fmt.Sprintf("np.team.policy-%02d", i) }

// ManyProgram lets in from a set to a port.
func ManyProgram(set string, port uint16) tables.Program {
	r := Rule(tables.Allow, protoTCP, port)
	r.Source.Sets = []string{set}
	return tables.Program{Ingress: []tables.Rule{r}}
}

// ManyPolicies are n policies that only allow, each from a set of its own, for the server pod.
func ManyPolicies(n int) *tables.Policy {
	p := NewTables()
	var names []string
	for i := range n {
		set := fmt.Sprintf("peers-%02d", i)
		p.Sets.Set(set, tables.Addresses)
		p.Members.Set(Member(set, fmt.Sprintf("10.50.0.%d/32", i)), struct{}{})
		p.Programs.Set(ManyName(i), ManyProgram(set, 80))
		names = append(names, ManyName(i))
	}
	server := Unrestricted(ServerPod)
	server.Ingress = []tables.Tier{Tier(tables.Deny, names...)}
	p.Endpoints.Set(InterfaceOf(ServerPod), server)
	return p
}

// FoldingComesAndGoes has policies come to be folded and cease to be, of which packets must see nothing. isFold tells which line of the
// subject's dump is there if and only if something is folded. The subject folds as by default.
func FoldingComesAndGoes(t *testing.T, subject Subject, isFold func(line string) bool) {
	t.Helper()
	n := NewNode(t, subject)
	p := ManyPolicies(12)
	client := AddressMember("peers-03", Address(ClientPod, IPv4))
	p.Members.Set(client, struct{}{})
	n.Apply(p)
	folds := func() bool { return slices.ContainsFunc(subject.Dump(t, n.NS), isFold) }
	server := func(change func(*tables.Endpoint)) func() {
		return func() {
			e, _ := p.Endpoints.Get(InterfaceOf(ServerPod))
			change(&e)
			p.Endpoints.Set(InterfaceOf(ServerPod), e)
		}
	}
	for _, step := range []struct {
		name    string
		change  func()
		folds   bool
		arrives bool
	}{
		{"twelve", func() {}, true, true},
		{"a great set", func() {
			for i := range 300 {
				p.Members.Set(Member("peers-03", fmt.Sprintf("10.51.%d.%d/32", i/200, i%200)), struct{}{})
			}
		}, true, true},
		{"small again", func() {
			for i := range 300 {
				p.Members.Delete(Member("peers-03", fmt.Sprintf("10.51.%d.%d/32", i/200, i%200)))
			}
		}, true, true},
		{"another denies first", func() {
			p.Programs.Set(ManyName(0), tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 80)}})
		}, true, false},
		{"another denies last", func() {
			p.Programs.Set(ManyName(0), ManyProgram("peers-00", 80))
			p.Programs.Set(ManyName(11), tables.Program{Ingress: []tables.Rule{Rule(tables.Deny, protoTCP, 80)}})
		}, true, true},
		{"few", server(func(e *tables.Endpoint) {
			e.Ingress = []tables.Tier{Tier(tables.Deny, ManyName(1), ManyName(2), ManyName(3))}
		}), false, true},
		{"many again", server(func(e *tables.Endpoint) {
			e.Ingress = []tables.Tier{Tier(tables.Deny, ManyName(0), ManyName(1), ManyName(2), ManyName(3), ManyName(4), ManyName(5), ManyName(6), ManyName(7), ManyName(8), ManyName(9))}
		}), true, true},
		{"not that one", server(func(e *tables.Endpoint) {
			others := slices.DeleteFunc(slices.Clone(e.Ingress[0].Programs), func(name string) bool { return name == ManyName(3) })
			e.Ingress = []tables.Tier{Tier(tables.Deny, others...)}
		}), true, false},
		{"an endpoint with IPv6", func() {
			p.Members.Set(Member("peers-04", "10.48.0.0/32"), struct{}{})
			p.Members.Set(AddressMember("peers-04", Address(ClientPod, IPv4)), struct{}{})
			e := Unrestricted(OtherPod)
			e.Addresses = append(slices.Clone(e.Addresses), netip.MustParseAddr("fd00:48::77"))
			p.Endpoints.Set(InterfaceOf(OtherPod), e)
		}, true, true},
		{"none", func() {
			for i := range 12 {
				p.Programs.Delete(ManyName(i))
				p.Sets.Delete(fmt.Sprintf("peers-%02d", i))
			}
			for m := range p.Members.All() {
				if strings.HasPrefix(m.Set, "peers-") {
					p.Members.Delete(m)
				}
			}
			e := Unrestricted(ServerPod)
			p.Endpoints.Set(InterfaceOf(ServerPod), e)
		}, false, true},
	} {
		step.change()
		n.Apply(p)
		if got := folds(); got != step.folds {
			t.Errorf("%s: folded %v, want %v", step.name, got, step.folds)
		}
		n.Verify(TCP(IPv4, ClientPod, ServerPod, 80, step.arrives))
		n.SameAsFresh(p)
	}
}
