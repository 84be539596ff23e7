package render

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

func bgpState(b *v1alpha1.BGP, pools ...v1alpha1.Pool) *v1alpha1.NodeStateSpec {
	return &v1alpha1.NodeStateSpec{
		Blocks: []v1alpha1.BlockLease{{CIDR: "10.48.1.0/26", Pool: "10.48.0.0/16"}},
		Pools:  pools, BGP: b,
	}
}

func speaking() *v1alpha1.BGP {
	return &v1alpha1.BGP{ASNumber: 64512, RouterID: "192.0.2.1", Addresses: []string{"192.0.2.1"}, ListenPort: 179}
}

func exportsOf(s *State) []string {
	var out []string
	for p := range maps.Collect(s.BGP().Exports.All()) {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

// A node advertises its blocks, pods' addresses that lie outside them, and what is announced for services; nothing of pools
// that are not to be exported.
func TestExports(t *testing.T) {
	pools := []v1alpha1.Pool{{CIDR: "10.48.0.0/16"}, {CIDR: "10.50.0.0/16", DisableBGPExport: true}}
	s := New("node1")
	s.SetLocal("shop/borrowed", "u1", []netip.Addr{netip.MustParseAddr("10.48.7.7")})
	s.SetLocal("shop/inside", "u2", []netip.Addr{netip.MustParseAddr("10.48.1.7")})
	s.SetLocal("shop/private", "u3", []netip.Addr{netip.MustParseAddr("10.50.1.7")})
	b := speaking()
	b.Announce = []string{"10.49.0.0/16"}
	b.Communities = []v1alpha1.BGPCommunities{{CIDR: "10.48.0.0/16", Values: []string{"64512:1"}}}
	s.SetNodeState(bgpState(b, pools...))
	if diff := cmp.Diff([]string{"10.48.1.0/26", "10.48.7.7/32", "10.49.0.0/16"}, exportsOf(s)); diff != "" {
		t.Errorf("exports (-want +got):\n%s", diff)
	}
	e, _ := s.BGP().Exports.Get(netip.MustParsePrefix("10.48.1.0/26"))
	if diff := cmp.Diff([]string{"64512:1"}, e.Communities); diff != "" {
		t.Errorf("communities (-want +got):\n%s", diff)
	}
	s.DeleteLocal("shop/borrowed", "u1")
	s.SetLocal("shop/late", "u4", []netip.Addr{netip.MustParseAddr("10.48.8.8")})
	if diff := cmp.Diff([]string{"10.48.1.0/26", "10.48.8.8/32", "10.49.0.0/16"}, exportsOf(s)); diff != "" {
		t.Errorf("exports after pods changed (-want +got):\n%s", diff)
	}
	s.SetNodeState(bgpState(nil, pools...))
	if s.BGP().Speaker != nil || len(exportsOf(s)) > 0 {
		t.Errorf("without spec.bgp: %+v, %v", s.BGP().Speaker, exportsOf(s))
	}
}

// The mesh is every other node that is in it, with one session for each family that both have; a session that is configured
// with the same address takes the place of the mesh's.
func TestMesh(t *testing.T) {
	s := New("node1")
	b := speaking()
	b.Mesh = &v1alpha1.BGPMesh{}
	member := func(addrs ...string) *v1alpha1.NodeNetworkSpec {
		return &v1alpha1.NodeNetworkSpec{Addresses: addrs, BGP: &v1alpha1.MeshMember{ASNumber: 64512, Port: 179}}
	}
	names := func() []string { return slices.Sorted(maps.Keys(maps.Collect(s.BGP().Sessions.All()))) }
	s.SetNetwork("node1", member("192.0.2.1"))
	s.SetNetwork("node2", member("192.0.2.2", "2001:db8::2"))
	s.SetNetwork("node3", &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.3"}})
	s.SetNodeState(bgpState(b))
	if diff := cmp.Diff([]string{"mesh/node2/192.0.2.2"}, names()); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
	s.SetNetwork("node3", member("192.0.2.3"))
	s.DeleteNetwork("node2")
	if diff := cmp.Diff([]string{"mesh/node3/192.0.2.3"}, names()); diff != "" {
		t.Errorf("sessions after nodes changed (-want +got):\n%s", diff)
	}
	b = b.DeepCopy()
	b.Sessions = []v1alpha1.BGPSession{{Name: "rr/192.0.2.3", Address: "192.0.2.3", ASNumber: 64512}}
	s.SetNodeState(bgpState(b))
	if diff := cmp.Diff([]string{"rr/192.0.2.3"}, names()); diff != "" {
		t.Errorf("sessions with one configured (-want +got):\n%s", diff)
	}
}

// The members of a group have each a session of their own, and are counted together.
func TestGroups(t *testing.T) {
	s := New("node1")
	b := speaking()
	b.Sessions = []v1alpha1.BGPSession{{Name: "a/192.0.2.7", Address: "192.0.2.7", ASNumber: 65007}}
	b.Groups = []v1alpha1.BGPGroup{{
		Session: v1alpha1.BGPSession{Name: "rr", ASNumber: 64512, Client: true, Port: 1790},
		Members: []string{"192.0.2.7", "192.0.2.8", "192.0.2.9 65009", "2001:db8::9"},
	}}
	s.SetNodeState(bgpState(b))
	got := maps.Collect(s.BGP().Sessions.All())
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"a/192.0.2.7", "rr/192.0.2.8", "rr/192.0.2.9", "rr/2001:db8::9"}) {
		t.Fatalf("sessions: %q", names)
	}
	for name, as := range map[string]uint32{"rr/192.0.2.8": 64512, "rr/192.0.2.9": 65009} {
		if p := got[name]; p.ASNumber != as || p.Port != 1790 || !p.Client || p.Group != "rr" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if got["a/192.0.2.7"].Group != "" {
		t.Errorf("a session by itself is in group %q", got["a/192.0.2.7"].Group)
	}
	b = b.DeepCopy()
	b.Groups[0].Members = []string{"192.0.2.8", "192.0.2.9 many"}
	s.SetNodeState(bgpState(b))
	if s.BGP().Sessions.Len() != 2 || s.Problems()[Item{Kind: KindNodeState, Name: "node1"}] == "" {
		t.Errorf("%d sessions, problems: %v", s.BGP().Sessions.Len(), s.Problems())
	}
}

// Learned routes to the cluster's pools count only where BGP is in charge of them, and then the agent makes none to other
// nodes' blocks; routes that the agent makes itself always win.
func TestWhoseRoutes(t *testing.T) {
	const far, outside = "10.48.2.0/26", "198.51.100.0/24"
	hop := netip.MustParseAddr("192.0.2.2")
	s := New("node1")
	s.SetNetwork("node2", &v1alpha1.NodeNetworkSpec{Addresses: []string{hop.String()}, Blocks: []string{far}})
	s.SetNodeState(bgpState(speaking(), v1alpha1.Pool{CIDR: "10.48.0.0/16"}))
	for _, p := range []string{far, outside, "10.48.1.0/26", "127.0.0.0/8"} {
		s.SetLearned(netip.MustParsePrefix(p), tables.BGPPaths{NextHops: []netip.Addr{hop}})
	}
	check := func(what string, wantLearned []string, wantGateway bool) {
		t.Helper()
		var got []string
		for p := range maps.Collect(s.Learned().Routes.All()) {
			got = append(got, p.String())
		}
		slices.Sort(got)
		if diff := cmp.Diff(wantLearned, got); diff != "" {
			t.Errorf("%s: learned routes (-want +got):\n%s", what, diff)
		}
		if _, ok := s.Routes().Get(netip.MustParsePrefix(far)); ok != wantGateway {
			t.Errorf("%s: the agent has a route to the other node's block: %v", what, ok)
		}
		if r, _ := s.Routes().Get(netip.MustParsePrefix("10.48.1.0/26")); r.Type != tables.Blackhole {
			t.Errorf("%s: route of the own block is %+v", what, r)
		}
	}
	check("agent in charge", []string{outside}, true)
	s.SetNodeState(bgpState(speaking(), v1alpha1.Pool{CIDR: "10.48.0.0/16", RoutesByBGP: true}))
	check("BGP in charge, its routes not in force yet", []string{far, outside}, true)
	s.EndBridged(func(netip.Prefix) bool { return true })
	check("BGP in charge", []string{far, outside}, false)
	s.SetNodeState(bgpState(speaking(), v1alpha1.Pool{CIDR: "10.48.0.0/16"}))
	check("agent in charge again", []string{outside}, true)
	s.SetLearned(netip.MustParsePrefix(outside), tables.BGPPaths{})
	check("withdrawn", nil, true)
}

// A next hop that can be nobody's to the destination is as good as none: the ways that are left count, and a destination without one has no route.
func TestNextHopsThatLeadNowhere(t *testing.T) {
	for _, tc := range []struct {
		to   string
		hops []string
		want []string
	}{
		{"198.51.100.0/24", []string{"192.0.2.2", "192.0.2.3"}, []string{"192.0.2.2", "192.0.2.3"}},
		{"198.51.100.0/24", []string{"0.0.0.0", "192.0.2.3", "127.0.0.1", "224.0.0.1", "2001:db8::2"}, []string{"192.0.2.3"}},
		{"198.51.100.0/24", []string{"0.0.0.0"}, nil},
		{"2001:db8:f::/48", []string{"192.0.2.2", "2001:db8::2", "fe80::1"}, []string{"2001:db8::2", "fe80::1"}},
		{"2001:db8:f::/48", []string{"::", "::1", "ff02::1", "192.0.2.2"}, nil},
	} {
		s := New("node1")
		s.SetNodeState(bgpState(speaking()))
		var hops []netip.Addr
		for _, h := range tc.hops {
			hops = append(hops, netip.MustParseAddr(h))
		}
		s.SetLearned(netip.MustParsePrefix(tc.to), tables.BGPPaths{NextHops: hops})
		route, _ := s.Learned().Routes.Get(netip.MustParsePrefix(tc.to))
		var got []string
		for _, h := range route.NextHops {
			got = append(got, h.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s by %v (-want +got):\n%s", tc.to, tc.hops, diff)
		}
	}
}

// A session whose filter is not there is not made: the peer could learn what it must not.
func TestFilterIsMissing(t *testing.T) {
	s := New("node1")
	b := speaking()
	b.Sessions = []v1alpha1.BGPSession{{Name: "a/192.0.2.9", Address: "192.0.2.9", ASNumber: 65001, Filters: []string{"none"}}}
	s.SetNodeState(bgpState(b))
	if s.BGP().Sessions.Len() != 0 || s.Problems()[Item{Kind: KindNodeState, Name: "node1"}] == "" {
		t.Errorf("sessions: %d, problems: %v", s.BGP().Sessions.Len(), s.Problems())
	}
}
