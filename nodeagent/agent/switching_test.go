package agent

import (
	"strings"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
)

// ways are the encapsulation of a pool and the node's ends of tunnels: "VXLAN: IPIP VXLAN".
func ways(text string) *v1alpha1.NodeStateSpec {
	encapsulation, ends, _ := strings.Cut(text, ":")
	s := &v1alpha1.NodeStateSpec{Pools: []v1alpha1.Pool{{CIDR: "10.48.0.0/16", Encapsulation: v1alpha1.TunnelKind(encapsulation)}}}
	for kind := range strings.FieldsSeq(ends) {
		s.Tunnels = append(s.Tunnels, v1alpha1.Tunnel{Kind: v1alpha1.TunnelKind(kind)})
	}
	return s
}

func text(s *v1alpha1.NodeStateSpec) string {
	out := string(s.Pools[0].Encapsulation) + ":"
	for _, t := range s.Tunnels {
		out += " " + string(t.Kind)
	}
	return out
}

// TestWaysChangeInSteps: a node receives in the new way before it sends so, and in the old way for longer than it sends so.
func TestWaysChangeInSteps(t *testing.T) {
	for _, test := range []struct{ what, before, after, first, second string }{
		{"a tunnel comes", ":", "VXLAN: VXLAN", ": VXLAN", "VXLAN: VXLAN"},
		{"a tunnel goes", "VXLAN: VXLAN", ":", ": VXLAN", ": VXLAN"},
		{"another tunnel", "IPIP: IPIP", "VXLAN: VXLAN", "IPIP: IPIP VXLAN", "VXLAN: IPIP VXLAN"},
		{"another tunnel, of which there is an end already", "IPIP: IPIP VXLAN", "VXLAN: VXLAN", "VXLAN: IPIP VXLAN", "VXLAN: IPIP VXLAN"},
		{"back in the middle of a change", "IPIP: IPIP VXLAN", "IPIP: IPIP", "IPIP: IPIP VXLAN", "IPIP: IPIP VXLAN"},
	} {
		before, after := ways(test.before), ways(test.after)
		if !changesWays(before, after) {
			t.Errorf("%s: it counts as no change", test.what)
		}
		for i, want := range []string{test.first, test.second} {
			if got := between(before, after, i == 0); text(&got) != want {
				t.Errorf("%s, step %d: %q, want %q", test.what, i+1, text(&got), want)
			}
		}
		if text(before) != test.before || text(after) != test.after {
			t.Errorf("%s: what was compared changed", test.what)
		}
	}
	for _, same := range []string{":", "VXLAN: VXLAN", "IPIP: IPIP VXLAN"} {
		if changesWays(ways(same), ways(same)) {
			t.Errorf("%q counts as a change to itself", same)
		}
	}
}

// TestBGPIsSpokenUntilOthersHaveHeard: where a pool leaves BGP, the sessions stay for a while; nowhere else.
func TestBGPIsSpokenUntilOthersHaveHeard(t *testing.T) {
	state := func(byBGP bool, bgp *v1alpha1.BGP) *v1alpha1.NodeStateSpec {
		return &v1alpha1.NodeStateSpec{Pools: []v1alpha1.Pool{{CIDR: "10.48.0.0/16", RoutesByBGP: byBGP}}, BGP: bgp}
	}
	mesh, peers := &v1alpha1.BGP{Mesh: &v1alpha1.BGPMesh{}}, &v1alpha1.BGP{}
	none := &v1alpha1.NodeStateSpec{}
	for _, c := range []struct {
		what          string
		before, after *v1alpha1.NodeStateSpec
		leaves        bool
		first, second *v1alpha1.BGP
	}{
		{"BGP ends", state(true, mesh), state(false, nil), true, mesh, nil},
		{"the mesh ends, other sessions stay", state(true, mesh), state(false, peers), true, mesh, peers},
		{"BGP ends that routed no pool", state(false, mesh), state(false, nil), false, nil, nil},
		{"BGP ends and the pool stays its own", state(true, mesh), state(true, nil), false, nil, nil},
		{"BGP begins", state(false, nil), state(true, mesh), false, mesh, mesh},
		{"the pool goes", state(true, mesh), none, false, nil, nil},
	} {
		if got := leavesBGP(c.before, c.after); got != c.leaves {
			t.Errorf("%s: a pool leaves BGP: %t, want %t", c.what, got, c.leaves)
		}
		for i, want := range []*v1alpha1.BGP{c.first, c.second} {
			if got := between(c.before, c.after, i == 0); got.BGP != want || leavesBGP(c.before, c.after) && got.Pools[0].RoutesByBGP {
				t.Errorf("%s, step %d: %+v, want BGP %+v", c.what, i+1, got, want)
			}
		}
	}
}
