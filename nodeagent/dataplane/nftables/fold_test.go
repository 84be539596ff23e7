package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/packets"
)

func manyName(i int) string { return fmt.Sprintf("np.team.policy-%02d", i) }

func manyProgram(set string, port uint16) tables.Program {
	r := packets.Rule(tables.Allow, unix.IPPROTO_TCP, port)
	r.Source.Sets = []string{set}
	return tables.Program{Ingress: []tables.Rule{r}}
}

// manyPolicies are n policies that only allow, each from a set of its own, for the server pod.
func manyPolicies(n int) *tables.Policy {
	p := packets.NewTables()
	var names []string
	for i := range n {
		set := fmt.Sprintf("peers-%02d", i)
		p.Sets.Set(set, tables.Addresses)
		p.Members.Set(packets.Member(set, fmt.Sprintf("10.50.0.%d/32", i)), struct{}{})
		p.Programs.Set(manyName(i), manyProgram(set, 80))
		names = append(names, manyName(i))
	}
	server := packets.Unrestricted(packets.ServerPod)
	server.Ingress = []tables.Tier{packets.Tier(tables.Deny, names...)}
	p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), server)
	return p
}

// An edit of policies that are folded is as many elements as it changes: no rule, no chain, no set.
func TestMinimalChangeOfFolds(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := manyPolicies(40)
	n.Apply(p)
	for _, line := range dump(t, n.NS, false) {
		if strings.Contains(line, "peers-") || strings.Contains(line, "pi-np.team") {
			t.Errorf("what is folded is there as it was, too: %s", line)
		}
	}
	news := listenForNews(t, n.NS)
	client := packets.AddressMember("peers-07", packets.Address(packets.ClientPod, packets.IPv4))
	for _, step := range []struct {
		name   string
		change func()
		want   map[string]int
	}{
		{"nothing", func() {}, map[string]int{}},
		{"a member comes", func() { p.Members.Set(client, struct{}{}) }, map[string]int{"new element": 1, "transaction": 1}},
		{"a member goes", func() { p.Members.Delete(client) }, map[string]int{"deleted element": 1, "transaction": 1}},
		{"another port", func() { p.Programs.Set(manyName(7), manyProgram("peers-07", 81)) }, map[string]int{"new element": 1, "deleted element": 1, "transaction": 1}},
		{"what another says, too", func() {
			p.Programs.Set(manyName(6), tables.Program{Ingress: slices.Concat(manyProgram("peers-06", 80).Ingress, manyProgram("peers-07", 81).Ingress)})
		}, map[string]int{}},
		{"what another still says", func() { p.Programs.Set(manyName(7), manyProgram("peers-09", 80)) }, map[string]int{}},
		{"a restart", func() { n.Reopen() }, map[string]int{}},
	} {
		step.change()
		n.Apply(p)
		got := map[string]int{}
		for text, count := range news.read() {
			if what, _, is := strings.Cut(text, " in f4-i-"); is {
				text = what
			}
			got[text] += count
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: what changed in the kernel (-want +got):\n%s", step.name, diff)
		}
		n.SameAsFresh(p)
	}
}

// Policies come to be folded and cease to be, and packets see nothing of it.
func TestFoldingComesAndGoes(t *testing.T) {
	n := packets.NewNode(t, subject())
	p := manyPolicies(12)
	client := packets.AddressMember("peers-03", packets.Address(packets.ClientPod, packets.IPv4))
	p.Members.Set(client, struct{}{})
	n.Apply(p)
	folds := func() int {
		count := 0
		for _, line := range dump(t, n.NS, false) {
			if strings.HasPrefix(line, "set <nil>f4-") {
				count++
			}
		}
		return count
	}
	server := func(change func(*tables.Endpoint)) func() {
		return func() {
			e, _ := p.Endpoints.Get(packets.InterfaceOf(packets.ServerPod))
			change(&e)
			p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), e)
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
				p.Members.Set(packets.Member("peers-03", fmt.Sprintf("10.51.%d.%d/32", i/200, i%200)), struct{}{})
			}
		}, true, true},
		{"small again", func() {
			for i := range 300 {
				p.Members.Delete(packets.Member("peers-03", fmt.Sprintf("10.51.%d.%d/32", i/200, i%200)))
			}
		}, true, true},
		{"another denies first", func() {
			p.Programs.Set(manyName(0), tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Deny, unix.IPPROTO_TCP, 80)}})
		}, true, false},
		{"another denies last", func() {
			p.Programs.Set(manyName(0), manyProgram("peers-00", 80))
			p.Programs.Set(manyName(11), tables.Program{Ingress: []tables.Rule{packets.Rule(tables.Deny, unix.IPPROTO_TCP, 80)}})
		}, true, true},
		{"few", server(func(e *tables.Endpoint) {
			e.Ingress = []tables.Tier{packets.Tier(tables.Deny, manyName(1), manyName(2), manyName(3))}
		}), false, true},
		{"many again", server(func(e *tables.Endpoint) {
			e.Ingress = []tables.Tier{packets.Tier(tables.Deny, manyName(0), manyName(1), manyName(2), manyName(3), manyName(4), manyName(5), manyName(6), manyName(7), manyName(8), manyName(9))}
		}), true, true},
		{"not that one", server(func(e *tables.Endpoint) {
			others := slices.DeleteFunc(slices.Clone(e.Ingress[0].Programs), func(name string) bool { return name == manyName(3) })
			e.Ingress = []tables.Tier{packets.Tier(tables.Deny, others...)}
		}), true, false},
		{"an endpoint with IPv6", func() {
			p.Members.Set(packets.Member("peers-04", "10.48.0.0/32"), struct{}{})
			p.Members.Set(packets.AddressMember("peers-04", packets.Address(packets.ClientPod, packets.IPv4)), struct{}{})
			e := packets.Unrestricted(packets.OtherPod)
			e.Addresses = append(slices.Clone(e.Addresses), netip.MustParseAddr("fd00:48::77"))
			p.Endpoints.Set(packets.InterfaceOf(packets.OtherPod), e)
		}, true, true},
		{"none", func() {
			for i := range 12 {
				p.Programs.Delete(manyName(i))
				p.Sets.Delete(fmt.Sprintf("peers-%02d", i))
			}
			for m := range p.Members.All() {
				if strings.HasPrefix(m.Set, "peers-") {
					p.Members.Delete(m)
				}
			}
			e := packets.Unrestricted(packets.ServerPod)
			p.Endpoints.Set(packets.InterfaceOf(packets.ServerPod), e)
		}, false, true},
	} {
		step.change()
		n.Apply(p)
		if got := folds() > 0; got != step.folds {
			t.Errorf("%s: folded %v, want %v", step.name, got, step.folds)
		}
		n.Verify(packets.TCP(packets.IPv4, packets.ClientPod, packets.ServerPod, 80, step.arrives))
		n.SameAsFresh(p)
	}
}
