package bgp

import (
	"fmt"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/netns"
)

// The next hop of a route that the node learned from one router and tells others: those on the first one's network, and those on another.
// That of the node's own routes is the node in each session.
func TestNextHops(t *testing.T) {
	const (
		learned        = "10.48.77.0/26" // in the cluster's pool, so that it is passed on
		first          = "192.0.2.100"
		near, far      = "192.0.2.101", "198.18.0.2"
		ownNear, ownAt = "192.0.2.1", "198.18.0.1"
	)
	withEach(t, func(t *testing.T, kind Kind) {
		for _, internal := range []bool{false, true} {
			as := 65002
			if internal {
				as = nodes
			}
			t.Run(map[bool]string{false: "eBGP", true: "iBGP"}[internal], func(t *testing.T) {
				ns := Bridged(t, []string{ownNear + "/24"}, []string{first + "/24"}, []string{near + "/24"})
				other := netns.New(t)
				ns[0].Veth("eth1", other, "eth1")
				ns[0].Address("eth1", ownAt+"/30")
				other.Address("eth1", far+"/30")
				other.Route("192.0.2.0/24", ownAt, "eth1")
				(&Setup{ID: first, Peerings: []Peering{{Router: first, Node: ownNear, RouterAS: rack, NodeAS: nodes}}, Offers: offers(learned)}).Start(t, ns[1], kind)
				atNear := (&Setup{ID: near, Peerings: []Peering{{Router: near, Node: ownNear, RouterAS: as, NodeAS: nodes}}}).Start(t, ns[2], kind)
				atFar := (&Setup{ID: far, Peerings: []Peering{{Router: far, Node: ownAt, RouterAS: as, NodeAS: nodes, Far: true}}}).Start(t, other, kind)
				n := NewNode(t, ns[0], "node1")
				for _, tc := range []struct{ mode, near, far string }{
					{"", first, map[bool]string{false: ownAt, true: first}[internal]},
					{"Self", ownNear, ownAt},
					{"Keep", first, first},
					{"Auto", first, map[bool]string{false: ownAt, true: first}[internal]},
				} {
					b := speaker(ownNear)
					b.Sessions = []v1alpha1.BGPSession{session("first", first, rack), session("near", near, int64(as)), session("far", far, int64(as))}
					b.Sessions[1].NextHop, b.Sessions[2].NextHop = tc.mode, tc.mode
					n.Input.State = withBlock(b)
					n.Tell()
					for _, want := range []struct {
						router      *Router
						prefix, hop string
					}{{atNear, learned, tc.near}, {atFar, learned, tc.far}, {atNear, block4, ownNear}, {atFar, block4, ownAt}} {
						Eventually(t, func() string {
							got := want.router.Knows(want.prefix)
							if len(got) != 1 || got[0].NextHop != want.hop {
								return fmt.Sprintf("nextHopMode %q: the route to %s is %+v, want next hop %s", tc.mode, want.prefix, got, want.hop)
							}
							return ""
						})
					}
				}
			})
		}
	})
}
