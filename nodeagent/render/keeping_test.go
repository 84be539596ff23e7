package render

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
)

// After the last pod that policies select has gone, and the operator has taken back what concerned it alone, nothing is kept: no program, no
// set, no member, no endpoint of another node, and nothing of what never came into force.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	s := New(self)
	s.SetCatalog("sets-aa", &v1alpha1.SetCatalogSpec{Sets: []v1alpha1.Set{
		{ID: "aa1", Identities: []string{"i1"}}, {ID: "aa2", CIDRs: []string{"203.0.113.0/24"}},
	}})
	s.SetProgram("gnp.p", 1, &v1alpha1.PolicyProgramSpec{Ingress: []v1alpha1.Rule{{
		Action: v1alpha1.Allow, Source: v1alpha1.EntityMatch{Sets: []string{"aa1"}}, Destination: v1alpha1.EntityMatch{NamedPorts: []string{"web"}},
	}, {Action: v1alpha1.Deny, Source: v1alpha1.EntityMatch{Sets: []string{"aa2"}}}}})
	s.SetProgram("gnp.waits", 2, allowing("zz9"))
	s.SetProgram("gnp.wrong", 3, &v1alpha1.PolicyProgramSpec{Ingress: []v1alpha1.Rule{{Action: "Perhaps"}}})
	s.SetEndpoints("node2", &v1alpha1.NodeEndpointsSpec{Endpoints: []v1alpha1.RemoteEndpoint{{
		ID: "shop/web", Identities: []string{"i1"}, Addresses: []string{"10.48.7.1"}, Ports: []v1alpha1.NamedPort{{Name: "web", Protocol: 6, Port: 80}},
	}}})
	s.SetNetwork("node2", &v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.2"}, Blocks: []string{"10.48.7.0/26"}})
	s.SetNodeState(stateOf("u1", "gnp.p", "gnp.waits"))
	s.SetLocal(pod, "u1", []netip.Addr{netip.MustParseAddr("10.48.0.1")})
	if len(s.Held()) == 0 || len(s.Problems()) != 1 || s.Policy().Endpoints.Len() != 1 {
		t.Fatalf("held %v, problems %v, %d endpoints", s.Held(), s.Problems(), s.Policy().Endpoints.Len())
	}
	s.SetNodeState(stateOf("u1", "gnp.p"))
	if s.Policy().Programs.Len() != 1 || s.Policy().Members.Len() != 4 {
		t.Fatalf("in force: %d programs, %d members", s.Policy().Programs.Len(), s.Policy().Members.Len())
	}

	s.SetNodeState(&v1alpha1.NodeStateSpec{})
	s.DeleteLocal(pod, "u1")
	for _, name := range []string{"gnp.p", "gnp.waits", "gnp.wrong"} {
		s.DeleteProgram(name)
	}
	s.DeleteCatalog("sets-aa")
	s.DeleteEndpoints("node2")
	s.DeleteNetwork("node2")
	for what, n := range map[string]int{
		"programs": len(s.programs), "sets": len(s.sets), "shards": len(s.shards), "remotes": len(s.remotes), "networks": len(s.networks),
		"destinations": len(s.dests), "endpoints": len(s.endpoints), "hosts": len(s.hosts), "problems": len(s.problems),
		"waiting for sets": len(s.waitingForSet), "waiting for programs": len(s.waitingForProgram), "hosts that wait": len(s.hostsWaiting),
		"addresses of identities": len(s.members.addrs), "users of identities": len(s.members.users), "named ports": len(s.members.ports),
		"named ports in use": len(s.members.usedPorts), "members counted twice": len(s.members.more),
		"programs in force": s.policy.Programs.Len(), "sets in force": s.policy.Sets.Len(), "members in force": s.policy.Members.Len(),
		"endpoints in force": s.policy.Endpoints.Len(), "routes": s.routes.Len(),
	} {
		if n > 0 {
			t.Errorf("%d %s are kept", n, what)
		}
	}
}

// What a policy costs that concerns nobody here, as long as the API's objects are followed, which tell every node of every policy. It is not in
// the tables, so no driver has anything of it. (The stream does not tell of it.)
func TestAPolicyThatConcernsNobodyHereCostsItsRules(t *testing.T) {
	const many = 10_000
	spec := func(i, rules int) *v1alpha1.PolicyProgramSpec {
		out := &v1alpha1.PolicyProgramSpec{}
		for j := range rules {
			out.Ingress = append(out.Ingress, v1alpha1.Rule{
				Action: v1alpha1.Allow, Protocol: new(int32(6)), Source: v1alpha1.EntityMatch{Sets: []string{fmt.Sprintf("s%d", i)}},
				Destination: v1alpha1.EntityMatch{Ports: []v1alpha1.PortRange{{First: int32(j + 1), Last: int32(j + 1)}}},
			})
		}
		return out
	}
	cost := func(rules int) int {
		s := New(self)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range many {
			id := fmt.Sprintf("s%d", i)
			s.SetCatalog("sets-"+id, &v1alpha1.SetCatalogSpec{Sets: []v1alpha1.Set{{ID: id, Identities: []string{id}}}})
			s.SetProgram(fmt.Sprintf("np.%d", i), 1, spec(i, rules))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if s.Policy().Programs.Len()+s.Policy().Sets.Len()+s.Policy().Members.Len() > 0 || s.Policy().Programs.HasDirty() {
			t.Error("a policy that concerns nobody here is in the tables")
		}
		runtime.KeepAlive(s)
		return int(after.HeapAlloc-before.HeapAlloc) / many
	}
	one, ten := cost(1), cost(10)
	rule := (ten - one) / 9
	t.Logf("%d bytes for a policy, its set and a rule, and %d for each rule more", one, rule)
	if rule > 480 || one-rule > 1000 {
		t.Errorf("a policy costs %d bytes beside its rules, and a rule %d", one-rule, rule)
	}
}
