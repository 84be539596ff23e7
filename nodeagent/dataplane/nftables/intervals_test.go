package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/test/packets"
)

// The intervals that the kernel gets are those CIDRs that no other covers, whatever the order of changes.
func TestIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &intervals{}
		members, kernel := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := changes{}
			for range rapid.IntRange(1, 5).Draw(t, "changes") {
				p := packets.RandomNet().Draw(t, "net")
				if rapid.Bool().Draw(t, "add") {
					members[p] = true
					s.insert(p, c)
				} else {
					delete(members, p)
					s.remove(p, c)
				}
			}
			for _, p := range c.sorted(-1) {
				if !kernel[p] {
					t.Fatalf("%v is removed from the kernel, which does not have it", p)
				}
				delete(kernel, p)
			}
			for _, p := range c.sorted(1) {
				if kernel[p] {
					t.Fatalf("%v is added to the kernel, which has it", p)
				}
				kernel[p] = true
			}
			want := map[netip.Prefix]bool{}
			for p := range members {
				covered := false
				for q := range members {
					covered = covered || q != p && q.Bits() < p.Bits() && q.Contains(p.Addr())
				}
				if !covered {
					want[p] = true
				}
			}
			if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(kernel)); diff != "" {
				t.Fatalf("in the kernel (-want +got):\n%s", diff)
			}
			var all []netip.Prefix
			for fam := range families {
				all = append(all, s.greatest(fam)...)
			}
			if len(all) != len(want) {
				t.Fatalf("greatest = %v, want %v", all, want)
			}
		}
	})
}
