package verdict

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Membership is what the definition says, however the members came and went, and however often an apply was tried in vain.
func TestMembershipFollowsTheTables(t *testing.T) {
	prefixes := []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.2.0.0/16", "0.0.0.0/0", "fd00::/8", "fd00::1/128"}
	looked := addrs("10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.0.1", "11.0.0.1", "fd00::1", "fe80::1")
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		e := New(w.Policy, "cali")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m := tables.Member{
				Set:    rapid.SampledFrom([]string{"s", "u"}).Draw(t, "set"),
				Prefix: netip.MustParsePrefix(rapid.SampledFrom(prefixes).Draw(t, "prefix")),
			}
			if rapid.Bool().Draw(t, "add") {
				w.Members.Set(m, struct{}{})
			} else {
				w.Members.Delete(m)
			}
			if rapid.Bool().Draw(t, "apply") {
				e.Update()
				if rapid.Bool().Draw(t, "in vain") {
					e.Update()
				}
				w.Clean()
			}
		}
		e.Update()
		for _, set := range []string{"s", "u"} {
			for _, addr := range looked {
				want := false
				for m := range w.Members.All() {
					want = want || m.Set == set && m.Prefix.Contains(addr)
				}
				if got := e.inSet(set, addr); got != want {
					t.Fatalf("%s in %s: %t, want %t", addr, set, got, want)
				}
			}
		}
		if w.Members.Len() == 0 && len(e.nets) > 0 {
			t.Fatalf("%d sets are kept that have no members", len(e.nets))
		}
	})
}

// One connection through 100 rules with large sets.
func BenchmarkEvaluate(b *testing.B) {
	w := newWorld()
	var rules []tables.Rule
	for i := range 100 {
		rules = append(rules, rule(tables.Allow, func(r *tables.Rule) { r.Source.Sets = []string{fmt.Sprintf("s%d", i%2)} }))
	}
	for i := range 10000 {
		addr := netip.AddrFrom4([4]byte{10, 49, byte(i >> 8), byte(i)})
		w.set("s0", tables.Addresses, tables.Member{Prefix: netip.PrefixFrom(addr, 32)})
		w.set("s1", tables.Nets, tables.Member{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)})
	}
	w.program("p", rules, nil).policies(db, tier(tables.Deny, "p"))
	e := New(w.Policy, "cali")
	p := Packet{In: "eth0", Out: db, Protocol: protocolTCP, Source: netip.MustParseAddr(far), Destination: netip.MustParseAddr(dbAddr), DestinationPort: 80}
	for b.Loop() {
		if e.Evaluate(p).Allowed {
			b.Fatal("allowed")
		}
	}
}
