package render

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

func TestFloatingAddresses(t *testing.T) {
	type want struct {
		floating map[string]string
		routes   map[string]tables.Route
		exported bool
		problem  string
	}
	addr := netip.MustParseAddr
	own := []netip.Addr{addr("10.48.0.5")}
	here := tables.Route{Type: tables.Workload, Interface: InterfaceName(pod)}
	for _, test := range []struct {
		name     string
		floating []v1alpha1.FloatingAddress
		own      []netip.Addr
		want     want
	}{
		{"none", nil, own, want{}},
		{"translated, routed to the pod, and advertised", []v1alpha1.FloatingAddress{{Address: "10.50.0.7"}}, own, want{
			floating: map[string]string{"10.50.0.7": "10.48.0.5"}, routes: map[string]tables.Route{"10.50.0.7/32": here}, exported: true,
		}},
		{"of a pod without address yet", []v1alpha1.FloatingAddress{{Address: "10.50.0.7"}}, nil, want{}},
		{"of a family that the pod does not have", []v1alpha1.FloatingAddress{{Address: "fd00:50::7"}}, own, want{
			problem: "floating address fd00:50::7: the pod has no address of its family",
		}},
		{"that is another's", []v1alpha1.FloatingAddress{{Address: "10.50.0.7", Problem: "it is another's"}}, own, want{problem: "it is another's"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New(self)
			spec := stateOf("u1")
			spec.BGP = &v1alpha1.BGP{ASNumber: 64512, RouterID: "192.0.2.1"}
			spec.Endpoints[0].Floating = test.floating
			s.SetNodeState(spec)
			if test.own != nil {
				s.SetLocal(pod, "u1", test.own)
			}
			got := want{problem: s.Problems()[Item{KindFloatingAddress, pod}]}
			for outer, inner := range s.Policy().Floating.All() {
				got.floating = map[string]string{outer.String(): inner.String()}
			}
			outer := netip.MustParsePrefix("10.50.0.7/32")
			if r, ok := s.Routes().Get(outer); ok {
				got.routes = map[string]tables.Route{outer.String(): r}
			}
			_, got.exported = s.BGP().Exports.Get(outer)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(want{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(tables.Route{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s.SetNodeState(&v1alpha1.NodeStateSpec{})
			s.DeleteLocal(pod, "u1")
			if n := s.Policy().Floating.Len() + s.Routes().Len() + len(s.Problems()) + len(s.floating); n != 0 {
				t.Errorf("left behind: %v %v %v", maps.Collect(s.Policy().Floating.All()), maps.Collect(s.Routes().All()), s.Problems())
			}
		})
	}
}

// A floating address moves between pods of one node, whichever of them comes first in the node's state.
func TestFloatingAddressMoves(t *testing.T) {
	addr := netip.MustParseAddr
	s := New(self)
	with := func(first, second []v1alpha1.FloatingAddress) {
		s.SetNodeState(&v1alpha1.NodeStateSpec{Endpoints: []v1alpha1.Endpoint{{ID: "a/one", UID: "1", Floating: first}, {ID: "a/two", UID: "2", Floating: second}}})
	}
	s.SetLocal("a/one", "1", []netip.Addr{addr("10.48.0.1")})
	s.SetLocal("a/two", "2", []netip.Addr{addr("10.48.0.2")})
	floating := []v1alpha1.FloatingAddress{{Address: "10.50.0.7"}}
	for _, owner := range []string{"10.48.0.1", "10.48.0.2", "10.48.0.1"} {
		if owner == "10.48.0.1" {
			with(floating, nil)
		} else {
			with(nil, floating)
		}
		if got, _ := s.Policy().Floating.Get(addr("10.50.0.7")); got != addr(owner) {
			t.Errorf("translated to %v, want %s", got, owner)
		}
	}
}

// Other nodes send packets for a floating address to the pod's node.
func TestFloatingAddressOfAnotherNode(t *testing.T) {
	s := New(self)
	s.SetNetwork("other", &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.2"}, Single: []string{"10.50.0.7", "fd00:50::7"}})
	got, _ := s.Routes().Get(netip.MustParsePrefix("10.50.0.7/32"))
	if want := (tables.Route{Type: tables.Gateway, NextHop: netip.MustParseAddr("192.0.2.2")}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s.Problems()[Item{KindNodeNetwork, "other"}] == "" {
		t.Error("a floating address of a family that the node does not have is no problem")
	}
	s.SetNetwork("other", &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.2"}})
	if s.Routes().Len() != 0 {
		t.Error("the route is left behind")
	}
}
