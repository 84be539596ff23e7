package render

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

const pod = "shop/web"

func stateOf(uid string, policies ...string) *v1alpha1.NodeStateSpec {
	e := v1alpha1.Endpoint{ID: pod, UID: types.UID(uid), Identity: "i1"}
	if len(policies) > 0 {
		e.Ingress = []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: policies}}
	}
	return &v1alpha1.NodeStateSpec{Endpoints: []v1alpha1.Endpoint{e}}
}

func allowing(sets ...string) *v1alpha1.PolicyProgramSpec {
	return &v1alpha1.PolicyProgramSpec{Ingress: []v1alpha1.Rule{{Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: sets}}}}
}

func catalogOf(ids ...string) *v1alpha1.SetCatalogSpec {
	spec := &v1alpha1.SetCatalogSpec{}
	for _, id := range ids {
		spec.Sets = append(spec.Sets, v1alpha1.Set{ID: id, Identities: []string{"i1"}})
	}
	return spec
}

func kernelOf(s *State) tables.Endpoint {
	e, _ := s.Policy().Endpoints.Get(InterfaceName(pod))
	return e
}

func TestInterfaceName(t *testing.T) {
	// printf default.nginx | sha1sum
	if got, want := InterfaceName("default/nginx"), "calic440f455693"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPodCreatedAnewDoesNotInheritPolicies(t *testing.T) {
	s := New(self)
	s.SetProgram("np.shop.old", 1, allowing())
	s.SetNodeState(stateOf("u1", "np.shop.old"))
	if e := kernelOf(s); e.Unknown || len(e.Ingress) != 1 {
		t.Fatalf("first pod: %+v", e)
	}
	s.SetNodeState(stateOf("u2", "np.shop.new"))
	if e := kernelOf(s); !e.Unknown {
		t.Errorf("second pod of that name, whose policy is not known: %+v, want one that is denied", e)
	}
	if _, ok := s.Policy().Programs.Get("np.shop.old"); ok {
		t.Error("the first pod's program is still there")
	}
	s.SetProgram("np.shop.new", 1, allowing())
	if e := kernelOf(s); e.Unknown {
		t.Errorf("second pod, whose policy is known: %+v", e)
	}
}

func TestHeldBack(t *testing.T) {
	s := New(self)
	s.SetCatalog("sets-aa", catalogOf("aa1"))
	s.SetProgram("gnp.a", 5, allowing("aa1"))
	s.SetNodeState(stateOf("u1", "gnp.a"))
	before := kernelOf(s)

	s.SetProgram("gnp.a", 6, allowing("aa1", "aa2"))
	p, _ := s.Policy().Programs.Get("gnp.a")
	if got := p.Ingress[0].Source.Sets; len(got) != 1 {
		t.Errorf("program with a set that is not known: %v, want its previous form", got)
	}
	s.SetNodeState(stateOf("u1", "gnp.a", "gnp.b"))
	if d := cmp.Diff(before, kernelOf(s), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("endpoint with a program that is not known (-previous +got):\n%s", d)
	}
	want := []Held{
		{Item: Item{KindPolicyProgram, "gnp.a"}, Version: 6, WaitsFor: "set aa2"},
		{Item: Item{KindEndpoint, pod}, WaitsFor: "PolicyProgram gnp.b"},
	}
	if d := cmp.Diff(want, s.Held()); d != "" {
		t.Errorf("held back (-want +got):\n%s", d)
	}
	if got := s.Unready(pod, "u1"); !strings.Contains(got, "gnp.b") {
		t.Errorf("unready: %q", got)
	}
	s.SetCatalog("sets-aa", catalogOf("aa1", "aa2"))
	s.SetProgram("gnp.b", 7, allowing())
	if len(s.Held()) > 0 || s.Unready(pod, "u1") != "" {
		t.Errorf("still held back: %v", s.Held())
	}
}

func TestWhatIsGoneStaysUntilNothingRefersToIt(t *testing.T) {
	s := New(self)
	s.SetCatalog("sets-aa", catalogOf("aa1"))
	s.SetProgram("gnp.a", 1, allowing("aa1"))
	s.SetNodeState(stateOf("u1", "gnp.a"))
	s.SetLocal(pod, "u1", []netip.Addr{netip.MustParseAddr("10.48.0.1")})
	s.DeleteCatalog("sets-aa")
	s.DeleteProgram("gnp.a")
	if s.Policy().Programs.Len() != 1 || s.Policy().Sets.Len() != 1 || s.Policy().Members.Len() != 1 {
		t.Fatal("gone while an endpoint refers to it")
	}
	s.SetNodeState(stateOf("u1"))
	if s.Policy().Programs.Len() != 0 || s.Policy().Sets.Len() != 0 || s.Policy().Members.Len() != 0 {
		t.Error("kept though nothing refers to it")
	}
}

func TestMalformedProgramIsAProblemAndNotHalfUsed(t *testing.T) {
	s := New(self)
	s.SetNodeState(stateOf("u1", "gnp.a"))
	bad := allowing()
	bad.Ingress[0].Source.Nets = []string{"10.0.0.0/8", "10.0.0.0/33"}
	s.SetProgram("gnp.a", 1, bad)
	if !kernelOf(s).Unknown {
		t.Error("an endpoint whose program could not be read is not denied")
	}
	if got := s.Problems()[Item{KindPolicyProgram, "gnp.a"}]; !strings.Contains(got, "ingress[0]") || !strings.Contains(got, "10.0.0.0/33") {
		t.Errorf("problem: %q", got)
	}
	s.SetProgram("gnp.a", 2, allowing())
	if kernelOf(s).Unknown || len(s.Problems()) > 0 {
		t.Errorf("after it was corrected: %v", s.Problems())
	}
}

// The work that one endpoint elsewhere brings follows the sets with its identity, not all sets.
func TestOneEndpointTouchesItsSetsOnly(t *testing.T) {
	s := New(self)
	spec := &v1alpha1.SetCatalogSpec{Sets: []v1alpha1.Set{{ID: "aa1", Identities: []string{"i1"}}, {ID: "aa2", Identities: []string{"i2"}}}}
	s.SetCatalog("sets-aa", spec)
	s.SetProgram("gnp.a", 1, allowing("aa1", "aa2"))
	s.SetNodeState(stateOf("u1", "gnp.a"))
	s.Policy().Clean()
	s.SetEndpoints("worker2", &v1alpha1.NodeEndpointsSpec{Endpoints: []v1alpha1.RemoteEndpoint{{ID: "n/a", Identities: []string{"i2"}, Addresses: []string{"10.48.1.1"}}}})
	var dirty []tables.Member
	for m := range s.Policy().Members.Dirty() {
		dirty = append(dirty, m)
	}
	want := []tables.Member{{Set: "aa2", Prefix: netip.MustParsePrefix("10.48.1.1/32")}}
	if d := cmp.Diff(want, dirty, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("changed members (-want +got):\n%s", d)
	}
	if s.Policy().Sets.HasDirty() || s.Policy().Programs.HasDirty() || s.Policy().Endpoints.HasDirty() {
		t.Error("more than members changed")
	}
	s.SetEndpoints("worker2", &v1alpha1.NodeEndpointsSpec{})
	if s.Policy().Members.HasDirty() && s.Policy().Members.Len() > 0 {
		t.Error("the member stays")
	}
}

func TestSetOfPorts(t *testing.T) {
	s := New(self)
	catalog := func(members ...v1alpha1.PortMembers) *v1alpha1.SetCatalogSpec {
		return &v1alpha1.SetCatalogSpec{Sets: []v1alpha1.Set{{ID: "aa1", OfPorts: true, Members: members}}}
	}
	s.SetProgram("gnp.a", 1, &v1alpha1.PolicyProgramSpec{Ingress: []v1alpha1.Rule{{
		Action: v1alpha1.Allow, Destination: v1alpha1.EntityMatch{PortSets: []string{"aa1"}},
	}}})
	s.SetNodeState(stateOf("u1", "gnp.a"))
	if !kernelOf(s).Unknown {
		t.Fatal("a program is in force before its set of ports is known")
	}
	s.SetCatalog("sets-aa", catalog()) // a service without a ready endpoint
	if typ, _ := s.Policy().Sets.Get("aa1"); typ != tables.NamedPorts || kernelOf(s).Unknown {
		t.Errorf("empty set of ports: type %d, endpoint %+v", typ, kernelOf(s))
	}
	s.SetCatalog("sets-aa", catalog(
		v1alpha1.PortMembers{Protocol: 17, Port: 53, Addresses: []string{"10.48.1.1"}}, v1alpha1.PortMembers{Protocol: 6, Port: 70000},
	))
	var got []tables.Member
	for m := range s.Policy().Members.All() {
		got = append(got, m)
	}
	want := []tables.Member{{Set: "aa1", Prefix: netip.MustParsePrefix("10.48.1.1/32"), Protocol: 17, Port: 53}}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	if got := s.Problems()[Item{KindSetCatalog, "sets-aa"}]; !strings.Contains(got, "port 70000") {
		t.Errorf("problem: %q", got)
	}
}
