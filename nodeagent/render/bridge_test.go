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

// When BGP comes to be in charge of a pool, each of the agent's own routes to other nodes stays until BGP has one that is in force.
func TestRoutesWaitForThoseOfBGP(t *testing.T) {
	const pool, first, second, six = "10.48.0.0/16", "10.48.2.0/26", "10.48.3.0/26", "fd00:48:2::/122"
	pools := func(byBGP bool) []v1alpha1.Pool {
		return []v1alpha1.Pool{{CIDR: pool, RoutesByBGP: byBGP}, {CIDR: "fd00:48::/32", RoutesByBGP: byBGP}}
	}
	network := func(blocks ...string) *v1alpha1.NodeNetworkSpec {
		return &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.2", "2001:db8::2"}, Blocks: blocks}
	}
	learn := func(s *State, p, hop string) {
		s.SetLearned(netip.MustParsePrefix(p), tables.BGPPaths{NextHops: []netip.Addr{netip.MustParseAddr(hop)}})
	}
	here := func(list ...string) func(netip.Prefix) bool {
		return func(p netip.Prefix) bool { return slices.Contains(list, p.String()) }
	}
	before := func(s *State) {
		s.SetNetwork("node2", network(first, second, six))
		s.SetNodeState(bgpState(speaking(), pools(false)...))
	}
	change := func(s *State) {
		before(s)
		s.SetNodeState(bgpState(speaking(), pools(true)...))
	}
	for _, tc := range []struct {
		name     string
		do       func(*State)
		own      []string
		learned  []string
		metric6  uint32
		bridging bool
	}{
		{"the agent in charge", before, []string{first, second, six}, nil, 0, false},
		{"BGP in charge, nothing learned", change, []string{first, second, six}, nil, 0, true},
		{"BGP in charge from the start", func(s *State) {
			s.SetNetwork("node2", network(first))
			s.SetNodeState(bgpState(speaking(), pools(true)...))
		}, nil, nil, 0, false},
		{"one learned, and not in force yet", func(s *State) {
			change(s)
			learn(s, first, "192.0.2.2")
			s.EndBridged(here())
		}, []string{first, second, six}, []string{first}, 0, true},
		{"one learned and in force", func(s *State) {
			change(s)
			learn(s, first, "192.0.2.2")
			s.EndBridged(here(first))
		}, []string{second, six}, []string{first}, 0, true},
		{"for IPv6 the metrics differ while both are there", func(s *State) {
			change(s)
			learn(s, six, "2001:db8::2")
		}, []string{first, second, six}, []string{six}, 1025, true},
		{"and are what was asked for when the agent's own went", func(s *State) {
			change(s)
			learn(s, six, "2001:db8::2")
			s.EndBridged(here(six))
		}, []string{first, second}, []string{six}, 1024, true},
		{"time is over", func(s *State) {
			change(s)
			s.EndBridged(func(netip.Prefix) bool { return true })
		}, nil, nil, 0, false},
		{"the other node gives up a block meanwhile", func(s *State) {
			change(s)
			s.SetNetwork("node2", network(first))
		}, []string{first}, nil, 0, true},
		{"and gets one", func(s *State) {
			change(s)
			s.SetNetwork("node2", network(first, second, six, "10.48.4.0/26"))
		}, []string{first, second, six}, nil, 0, true},
		{"the agent in charge again", func(s *State) {
			change(s)
			s.SetNodeState(bgpState(speaking(), pools(false)...))
		}, []string{first, second, six}, nil, 0, false},
		{"a node that is in reach by a tunnel alone", func(s *State) {
			s.SetNetwork("node1", &v1alpha1.NodeNetworkSpec{Addresses: []string{"198.51.100.1"}, Subnets: []string{"198.51.100.0/24"}})
			change(s)
		}, nil, nil, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New("node1")
			tc.do(s)
			var own, learned []string
			for p, r := range s.Routes().All() {
				if r.Type == tables.Gateway {
					own = append(own, p.String())
				}
			}
			for p := range maps.Collect(s.Learned().Routes.All()) {
				learned = append(learned, p.String())
			}
			slices.Sort(own)
			slices.Sort(learned)
			if diff := cmp.Diff(tc.own, own); diff != "" {
				t.Errorf("the agent's own routes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.learned, learned); diff != "" {
				t.Errorf("learned routes (-want +got):\n%s", diff)
			}
			if r, _ := s.Learned().Routes.Get(netip.MustParsePrefix(six)); r.Metric != tc.metric6 {
				t.Errorf("metric of the learned IPv6 route is %d, want %d", r.Metric, tc.metric6)
			}
			if s.HasBridged() != tc.bridging {
				t.Errorf("waiting for BGP: %v, want %v", s.HasBridged(), tc.bridging)
			}
		})
	}
}
