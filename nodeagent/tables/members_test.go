package tables

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/delta"
)

// Members are what delta.Table would be of the same changes, and know the members of each set.
func TestMembersAreATable(t *testing.T) {
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:10.0.0.1/128"),
		netip.MustParsePrefix("fd00::1/128"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), {},
	}
	member := rapid.Custom(func(t *rapid.T) Member {
		return Member{
			Set: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "set"), Prefix: rapid.SampledFrom(prefixes).Draw(t, "prefix"),
			Protocol: rapid.SampledFrom([]uint8{0, 6}).Draw(t, "protocol"), Port: rapid.SampledFrom([]uint16{0, 65535}).Draw(t, "port"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		want := delta.NewTable[Member](func(_, _ struct{}) bool { return true })
		got := NewMembers()
		for range rapid.IntRange(0, 50).Draw(t, "changes") {
			m := member.Draw(t, "member")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				want.Clean()
				got.Clean()
			case 1:
				want.MarkDirty(m)
				got.MarkDirty(m)
			case 2, 3, 4:
				if want.Delete(m) != got.Delete(m) {
					t.Fatalf("Delete(%v) says something else", m)
				}
			default:
				if want.Set(m, struct{}{}) != got.Set(m, struct{}{}) {
					t.Fatalf("Set(%v) says something else", m)
				}
			}
			_, wantIs := want.Get(m)
			if _, is := got.Get(m); is != wantIs || got.Had(m) != want.Had(m) || got.Len() != want.Len() || got.HasDirty() != want.HasDirty() {
				t.Fatalf("%v: is %v, had %v, %d, dirty %v; want %v, %v, %d, %v", m, is, got.Had(m), got.Len(), got.HasDirty(), wantIs, want.Had(m), want.Len(), want.HasDirty())
			}
		}
		equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
		if diff := cmp.Diff(maps.Collect(want.All()), maps.Collect(got.All()), equal); diff != "" {
			t.Fatalf("members (-want +got):\n%s", diff)
		}
		dirty := func(list []Member) map[Member]bool {
			out := map[Member]bool{}
			for _, m := range list {
				out[m] = true
			}
			return out
		}
		if diff := cmp.Diff(dirty(slices.Collect(want.Dirty())), dirty(slices.Collect(got.Dirty())), equal); diff != "" {
			t.Fatalf("what changed (-want +got):\n%s", diff)
		}
		for _, set := range []string{"a", "b", ""} {
			of := slices.Collect(got.Of(set))
			for _, m := range of {
				if _, is := want.Get(m); !is || m.Set != set {
					t.Fatalf("%v is no member of %q", m, set)
				}
			}
			if len(of) != got.Count(set) {
				t.Fatalf("set %q has %d members, but counts %d", set, len(of), got.Count(set))
			}
		}
	})
}
