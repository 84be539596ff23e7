package render

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

func hep(name, iface string, addrs ...string) v1alpha1.HostEndpoint {
	return v1alpha1.HostEndpoint{Name: name, Interface: iface, Addresses: addrs, DefaultAction: v1alpha1.Deny}
}

func hostState(hosts ...v1alpha1.HostEndpoint) *v1alpha1.NodeStateSpec {
	return &v1alpha1.NodeStateSpec{HostEndpoints: hosts}
}

func nodeInterfaces() map[string][]netip.Addr {
	a := netip.MustParseAddr
	return map[string][]netip.Addr{
		"lo":    {a("127.0.0.1"), a("192.168.0.9")},
		"eth0":  {a("192.168.0.1"), a("fd00::1")},
		"eth1":  {a("192.168.1.1")},
		"bond0": {a("192.168.1.1"), a("192.168.2.1")},
		"calia": {a("192.168.0.8")},
	}
}

func TestWhichHostEndpointStandsForAnInterface(t *testing.T) {
	for what, tc := range map[string]struct {
		hosts []v1alpha1.HostEndpoint
		want  map[string]string // interface -> name
		// problems that are told, by name.
		problems map[string]string
	}{
		"an interface by its name, whether it is there or not": {
			hosts: []v1alpha1.HostEndpoint{hep("a", "eth0"), hep("b", "eth7")},
			want:  map[string]string{"eth0": "a", "eth7": "b"},
		},
		"all that bear one of the expected addresses": {
			hosts: []v1alpha1.HostEndpoint{hep("a", "", "192.168.1.1", "203.0.113.1"), hep("b", "", "fd00::1")},
			want:  map[string]string{"eth1": "a", "bond0": "a", "eth0": "b"},
		},
		"a name goes before addresses, and addresses before all interfaces": {
			hosts: []v1alpha1.HostEndpoint{hep("a", "*"), hep("b", "", "192.168.1.1"), hep("c", "eth1")},
			want:  map[string]string{"*": "a", "bond0": "b", "eth1": "c"},
		},
		"with a name, addresses recognise nothing": {
			hosts: []v1alpha1.HostEndpoint{hep("a", "eth0", "192.168.1.1")},
			want:  map[string]string{"eth0": "a"},
		},
		"of several by one name the first counts": {
			hosts:    []v1alpha1.HostEndpoint{hep("b", "eth0"), hep("a", "eth0")},
			want:     map[string]string{"eth0": "a"},
			problems: map[string]string{"b": "HostEndpoint a stands for interface eth0"},
		},
		"of several by one address the first counts, if it gets no other interface the second is told": {
			hosts:    []v1alpha1.HostEndpoint{hep("b", "", "192.168.1.1", "192.168.0.1"), hep("a", "", "192.168.1.1"), hep("c", "", "192.168.2.1")},
			want:     map[string]string{"bond0": "a", "eth1": "a", "eth0": "b"},
			problems: map[string]string{"c": "HostEndpoint a stands for interface bond0"},
		},
		"of several for all interfaces the first counts": {
			hosts:    []v1alpha1.HostEndpoint{hep("worker1-auto-hep", "*", "192.168.0.1"), hep("mine", "*")},
			want:     map[string]string{"*": "mine"},
			problems: map[string]string{"worker1-auto-hep": "HostEndpoint mine stands for all interfaces"},
		},
		"pods' interfaces and the loopback interface have none": {
			hosts: []v1alpha1.HostEndpoint{hep("a", "lo"), hep("b", "calia"), hep("c", "", "192.168.0.9"), hep("d", "", "192.168.0.8")},
			problems: map[string]string{
				"a": "loopback interface is never policed", "b": `"calia" is a pod's interface`,
				"c": "no interface of the node has any of 192.168.0.9", "d": "no interface of the node has any of 192.168.0.8",
			},
		},
		"what can't be an interface is told": {
			hosts:    []v1alpha1.HostEndpoint{hep("a", "an-interface-name-of-24c"), hep("b", ""), hep("c", "", "192.168.0.300", "192.168.0.1")},
			want:     map[string]string{"eth0": "c"},
			problems: map[string]string{"a": "longer than the 15 characters", "b": "neither an interfaceName nor expectedIPs", "c": "192.168.0.300"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := New(self)
			s.SetInterfaces(nodeInterfaces())
			s.SetNodeState(hostState(tc.hosts...))
			got := map[string]string{}
			for iface := range s.Policy().HostEndpoints.All() {
				got[iface] = s.HostEndpoint(iface)
			}
			if d := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("host endpoints by interface (-want +got):\n%s", d)
			}
			for name, want := range tc.problems {
				if problem := s.Problems()[Item{KindHostEndpoint, name}]; !strings.Contains(problem, want) {
					t.Errorf("problem of %s: %q, want %q", name, problem, want)
				}
			}
			if len(s.Problems()) != len(tc.problems) {
				t.Errorf("problems: %v", s.Problems())
			}
			s.SetNodeState(hostState())
			if s.Policy().HostEndpoints.Len() > 0 || len(s.Problems()) > 0 {
				t.Errorf("after they are gone: %d in the tables, problems %v", s.Policy().HostEndpoints.Len(), s.Problems())
			}
		})
	}
}

func TestHostEndpointFollowsItsAddress(t *testing.T) {
	s := New(self)
	s.SetNodeState(hostState(hep("a", "", "192.168.0.1"), hep("b", "*")))
	if got := s.HostEndpoint("eth0"); got != "" {
		t.Errorf("before interfaces are known: %q", got)
	}
	s.SetInterfaces(map[string][]netip.Addr{"eth0": {netip.MustParseAddr("192.168.0.1")}})
	if got := s.HostEndpoint("eth0"); got != "a" {
		t.Errorf("eth0 has %q, want a", got)
	}
	s.SetInterfaces(map[string][]netip.Addr{"eth0": nil, "eth1": {netip.MustParseAddr("192.168.0.1")}})
	if s.HostEndpoint("eth0") != "" || s.HostEndpoint("eth1") != "a" || s.HostEndpoint("*") != "b" {
		t.Errorf("after the address moved: %v", s.placed)
	}
	s.Policy().Clean()
	s.SetInterfaces(map[string][]netip.Addr{"eth1": {netip.MustParseAddr("192.168.0.1")}, "eth2": {netip.MustParseAddr("192.168.0.7")}})
	if s.Policy().HasDirty() {
		t.Error("an interface that no host endpoint names changed the tables")
	}
}

func TestListsOfAHostEndpoint(t *testing.T) {
	tier := func(action v1alpha1.Action, programs ...string) []v1alpha1.TierPolicies {
		return []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: action, Policies: programs}}
	}
	want := func(action tables.Action, programs ...string) []tables.Tier {
		return []tables.Tier{{Name: "default", Default: action, Programs: programs}}
	}
	s := New(self)
	h := hep("a", "eth0")
	h.DefaultAction = v1alpha1.Allow
	h.Local = v1alpha1.DirectionPolicies{Ingress: tier(v1alpha1.Deny, "gnp.in"), Egress: tier(v1alpha1.Deny, "gnp.out")}
	h.Forward = v1alpha1.DirectionPolicies{Ingress: tier(v1alpha1.Deny, "gnp.fwd")}
	h.PreDNAT = tier(v1alpha1.Pass, "gnp.pre")
	h.Untracked = v1alpha1.DirectionPolicies{Egress: tier(v1alpha1.Pass, "gnp.raw")}
	for _, name := range []string{"gnp.in", "gnp.out", "gnp.fwd", "gnp.pre"} {
		s.SetProgram(name, 1, allowing())
	}
	s.SetNodeState(hostState(h))
	unknown := tables.HostEndpoint{Unknown: true, LocalDefault: tables.Deny}
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); !cmp.Equal(unknown, got) {
		t.Errorf("while a program of it is not known: %+v, want one that is denied", got)
	}
	if held := s.Held(); len(held) != 1 || held[0].Item != (Item{KindHostEndpoint, "a"}) || held[0].WaitsFor != "PolicyProgram gnp.raw" {
		t.Errorf("held back: %+v", held)
	}
	if !s.SetProgram("gnp.raw", 2, allowing()) {
		t.Error("a program that a host endpoint waits for is said not to concern the node")
	}
	full := tables.HostEndpoint{
		Local:   tables.Directions{Ingress: want(tables.Deny, "gnp.in"), Egress: want(tables.Deny, "gnp.out")},
		Forward: tables.Directions{Ingress: want(tables.Deny, "gnp.fwd")},
		PreDNAT: want(tables.Pass, "gnp.pre"), Untracked: tables.Directions{Egress: want(tables.Pass, "gnp.raw")},
		LocalDefault: tables.Allow,
	}
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); !cmp.Equal(full, got) {
		t.Errorf("host endpoint (-want +got):\n%s", cmp.Diff(full, got))
	}
	if s.Policy().Programs.Len() != 5 || len(s.Held()) > 0 {
		t.Errorf("%d programs in the tables, want 5; held back: %v", s.Policy().Programs.Len(), s.Held())
	}

	h.Local.Ingress = tier(v1alpha1.Deny, "gnp.in", "gnp.new")
	s.SetNodeState(hostState(h))
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); !cmp.Equal(full, got) {
		t.Errorf("while a new program is not known (-previous +got):\n%s", cmp.Diff(full, got))
	}
	s.SetProgram("gnp.new", 3, allowing())
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); len(got.Local.Ingress[0].Programs) != 2 {
		t.Errorf("after the program came: %+v", got.Local)
	}
	s.SetNodeState(hostState())
	if s.Policy().Programs.Len() > 0 {
		t.Error("programs stay though no endpoint names them")
	}
}

// A host endpoint that another keeps from its interface uses nothing, and is there when the other goes.
func TestHostEndpointWithoutInterfaceUsesNothing(t *testing.T) {
	s := New(self)
	first, second := hep("a", "eth0"), hep("b", "eth0")
	second.Local.Ingress = []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: []string{"gnp.b"}}}
	s.SetProgram("gnp.b", 1, allowing())
	s.SetNodeState(hostState(first, second))
	if s.Policy().Programs.Len() > 0 {
		t.Error("the program of a host endpoint that has no interface is in the tables")
	}
	s.DeleteProgram("gnp.b")
	s.SetNodeState(hostState(second))
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); !got.Unknown {
		t.Errorf("its program is gone: %+v, want one that is denied", got)
	}
	s.SetProgram("gnp.b", 2, allowing())
	if got, _ := s.Policy().HostEndpoints.Get("eth0"); got.Unknown || s.HostEndpoint("eth0") != "b" {
		t.Errorf("after all of it is known: %+v", got)
	}
}

func TestSettingsAndSourcePrefixesThatCantBeReadAreTold(t *testing.T) {
	s := New(self)
	spec := stateOf("u1")
	spec.Endpoints[0].SourcePrefixes = []string{"192.0.2.0/24", "192.0.2.0/99"}
	spec.Settings.FailsafeInbound = []v1alpha1.FailsafePort{{Protocol: 6, Port: 22}, {Protocol: 6, Port: 70000}}
	spec.Settings.FailsafeOutbound = []v1alpha1.FailsafePort{{Protocol: 17, Port: 53, Net: "10.0.0.1/8"}, {Protocol: 17, Port: 67, Net: "x"}}
	s.SetNodeState(spec)
	e := kernelOf(s)
	if want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}; !cmp.Equal(want, e.SourcePrefixes, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("source prefixes %v, want %v", e.SourcePrefixes, want)
	}
	if problem := s.Problems()[Item{KindEndpoint, pod}]; !strings.Contains(problem, "sourcePrefixes") {
		t.Errorf("problem of the endpoint: %q", problem)
	}
	want := tables.Settings{
		VXLANPort:        4789,
		FailsafeInbound:  []tables.FailsafePort{{Protocol: 6, Port: 22}},
		FailsafeOutbound: []tables.FailsafePort{{Protocol: 17, Port: 53, Net: netip.MustParsePrefix("10.0.0.0/8")}},
	}
	if got := s.Policy().Settings; !want.Equal(got) {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	problem := s.Problems()[Item{KindNodeState, self}]
	if !strings.Contains(problem, "failsafeInbound: got protocol 6 and port 70000") || !strings.Contains(problem, "failsafeOutbound: reading CIDR") {
		t.Errorf("problem of the settings: %q", problem)
	}
	spec.Endpoints = nil
	s.SetNodeState(spec)
	if _, stays := s.Problems()[Item{KindEndpoint, pod}]; stays {
		t.Error("the problem stays when the endpoint is gone")
	}
}
