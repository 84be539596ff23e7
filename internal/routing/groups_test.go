package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
)

// expanded are the sessions of a plan, those of groups among them, in order of their name. The nodes are not told in groups.
func expanded(b *v1alpha1.BGP) []v1alpha1.BGPSession {
	var out []v1alpha1.BGPSession
	for _, s := range b.Sessions {
		s.Node = ""
		out = append(out, s)
	}
	for _, g := range b.Groups {
		for _, member := range g.Members {
			s := g.Session
			address, as, _ := strings.Cut(member, " ")
			s.Name, s.Address = s.Name+"/"+address, address
			if as != "" {
				s.ASNumber, _ = strconv.ParseInt(as, 10, 64)
			}
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.BGPSession) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Groups say what the sessions say of which they were made, whatever the sessions differ in.
func TestGroupsSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(what string, values ...string) string { return rapid.SampledFrom(values).Draw(t, what) }
		number := func(what string, values ...int32) int32 { return rapid.SampledFrom(values).Draw(t, what) }
		var sessions []v1alpha1.BGPSession
		for i := range rapid.IntRange(0, 120).Draw(t, "sessions") {
			address := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()
			s := v1alpha1.BGPSession{
				Address: address, Node: pick("node", "", "n"+fmt.Sprint(i), "n"+fmt.Sprint(i), "n"+fmt.Sprint(i)),
				ASNumber: int64(number("AS", 64512, 64512, 64512, 65001)), Passive: number("passive", 0, 1) == 1,
				Client: number("client", 0, 0, 1) == 1, Port: number("port", 0, 0, 0, 1790),
				LocalASNumber: int64(number("local AS", 0, 0, 0, 65100)),
			}
			s.Name = pick("peer", "rr", "rs") + "/" + address
			sessions = append(sessions, s)
		}
		slices.SortFunc(sessions, func(a, b v1alpha1.BGPSession) int { return strings.Compare(a.Name, b.Name) })
		got := &v1alpha1.BGP{}
		got.Sessions, got.Groups = grouped(slices.Clone(sessions))
		want := &v1alpha1.BGP{Sessions: sessions}
		if diff := cmp.Diff(expanded(want), expanded(got)); diff != "" {
			t.Fatalf("sessions (-want +got):\n%s", diff)
		}
		for _, g := range got.Groups {
			if len(g.Members) < groupFrom {
				t.Errorf("a group of %d", len(g.Members))
			}
		}
	})
}
