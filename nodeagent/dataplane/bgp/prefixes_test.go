package bgp

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Whatever a rule asks of a prefix, the list that the speaker gets says the same of every prefix, though the speaker looks only at
// the most specific entry that a prefix lies in.
func TestPrefixLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := func(label string) netip.Prefix {
			base := [4]byte{10, rapid.Byte().Draw(t, label), rapid.SampledFrom([]byte{0, 1, 2, 255}).Draw(t, label), rapid.SampledFrom([]byte{0, 128, 129}).Draw(t, label)}
			p, _ := netip.AddrFrom4(base).Prefix(rapid.IntRange(0, 32).Draw(t, label))
			return p
		}
		low := rapid.Uint8Range(0, 32).Draw(t, "low")
		rule := &tables.BGPRule{
			Operator:  tables.PrefixOperator(rapid.IntRange(0, 4).Draw(t, "operator")),
			MinLength: low, MaxLength: rapid.Uint8Range(low, 32).Draw(t, "high"), CIDR: prefix("cidr"),
		}
		route := prefix("route")
		if rapid.Bool().Draw(t, "related") { // prefixes around the CIDR are where mistakes would be
			addr := rule.CIDR.Addr()
			route, _ = addr.Prefix(rapid.IntRange(0, 32).Draw(t, "length"))
		}
		want := int(rule.MinLength) <= route.Bits() && route.Bits() <= int(rule.MaxLength)
		in := rule.CIDR.Bits() <= route.Bits() && rule.CIDR.Contains(route.Addr())
		switch rule.Operator {
		case tables.AnyPrefix:
		case tables.EqualPrefix:
			want = want && route == rule.CIDR
		case tables.NotEqualPrefix:
			want = want && route != rule.CIDR
		case tables.InPrefix:
			want = want && in
		case tables.NotInPrefix:
			want = want && !in
		}
		list, possible := prefixesOf(rule)
		got := possible && list == nil
		best := -1
		for _, e := range list {
			p := netip.MustParsePrefix(e.IpPrefix)
			if p.Bits() > route.Bits() || !p.Contains(route.Addr()) || p.Bits() < best {
				continue
			}
			if p.Bits() > best {
				best, got = p.Bits(), false
			}
			got = got || int(e.MaskLengthMin) <= route.Bits() && route.Bits() <= int(e.MaskLengthMax)
		}
		if got != want {
			t.Fatalf("rule %+v, route %s: got %v, want %v; list %v", rule, route, got, want, list)
		}
	})
}
