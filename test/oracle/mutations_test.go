package oracle_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/oracle"
	"github.com/manul-net/manul/test/oracle/kernels"
)

// A mutation is one mistake that a compiler could make. It tells whether it found where to make it in what is rendered.
type mutation struct {
	name string
	make func(r *oracle.Rendered, seed int) bool
}

// onRule makes a mistake in one rule of those in which it can be made.
func onRule(name string, can func(*v1alpha1.Rule) bool, mistake func(*v1alpha1.Rule)) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		var all []*v1alpha1.Rule
		for _, program := range sortedPrograms(r) {
			for _, rules := range [][]v1alpha1.Rule{program.Spec.Ingress, program.Spec.Egress} {
				for i := range rules {
					if can(&rules[i]) {
						all = append(all, &rules[i])
					}
				}
			}
		}
		if len(all) == 0 {
			return false
		}
		mistake(all[seed%len(all)])
		return true
	}}
}

// onEnd makes a mistake in one end of a rule.
func onEnd(name string, can func(*v1alpha1.EntityMatch) bool, mistake func(*v1alpha1.EntityMatch)) mutation {
	return onRule(name, func(r *v1alpha1.Rule) bool { return can(&r.Source) || can(&r.Destination) }, func(r *v1alpha1.Rule) {
		if can(&r.Source) {
			mistake(&r.Source)
		} else {
			mistake(&r.Destination)
		}
	})
}

// onRules makes a mistake in one list of rules.
func onRules(name string, can func([]v1alpha1.Rule) bool, mistake func([]v1alpha1.Rule) []v1alpha1.Rule) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		var all []*[]v1alpha1.Rule
		for _, program := range sortedPrograms(r) {
			for _, rules := range []*[]v1alpha1.Rule{&program.Spec.Ingress, &program.Spec.Egress} {
				if can(*rules) {
					all = append(all, rules)
				}
			}
		}
		if len(all) == 0 {
			return false
		}
		rules := all[seed%len(all)]
		*rules = mistake(*rules)
		return true
	}}
}

func sortedPrograms(r *oracle.Rendered) []*v1alpha1.PolicyProgram {
	var out []*v1alpha1.PolicyProgram
	for _, p := range r.Programs {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *v1alpha1.PolicyProgram) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// onTiers makes a mistake in one list of tiers of those that endpoints and host endpoints have.
func onTiers(name string, can func([]v1alpha1.TierPolicies) bool, mistake func([]v1alpha1.TierPolicies) []v1alpha1.TierPolicies) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		var all []*[]v1alpha1.TierPolicies
		for _, node := range nodes() {
			state := r.States[node]
			if state == nil {
				continue
			}
			for i := range state.Spec.Endpoints {
				e := &state.Spec.Endpoints[i]
				all = append(all, &e.Ingress, &e.Egress)
			}
			for i := range state.Spec.HostEndpoints {
				h := &state.Spec.HostEndpoints[i]
				all = append(all, &h.Local.Ingress, &h.Local.Egress, &h.Forward.Ingress, &h.Forward.Egress, &h.PreDNAT, &h.Untracked.Ingress, &h.Untracked.Egress)
			}
		}
		all = slices.DeleteFunc(all, func(tiers *[]v1alpha1.TierPolicies) bool { return !can(*tiers) })
		if len(all) == 0 {
			return false
		}
		tiers := all[seed%len(all)]
		*tiers = mistake(*tiers)
		return true
	}}
}

// onHost makes a mistake in one host endpoint.
func onHost(name string, can func(*v1alpha1.HostEndpoint) bool, mistake func(*v1alpha1.HostEndpoint)) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		var all []*v1alpha1.HostEndpoint
		for _, node := range nodes() {
			for i := range r.States[node].Spec.HostEndpoints {
				if h := &r.States[node].Spec.HostEndpoints[i]; can(h) {
					all = append(all, h)
				}
			}
		}
		if len(all) == 0 {
			return false
		}
		mistake(all[seed%len(all)])
		return true
	}}
}

// onSet makes a mistake in one set.
func onSet(name string, can func(*v1alpha1.Set) bool, mistake func(*v1alpha1.Set)) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		var all []*v1alpha1.Set
		for _, catalog := range r.Catalogs {
			for i := range catalog.Spec.Sets {
				if can(&catalog.Spec.Sets[i]) {
					all = append(all, &catalog.Spec.Sets[i])
				}
			}
		}
		slices.SortFunc(all, func(a, b *v1alpha1.Set) int { return strings.Compare(a.ID, b.ID) })
		if len(all) == 0 {
			return false
		}
		mistake(all[seed%len(all)])
		return true
	}}
}

func onSettings(name string, can func(*v1alpha1.AgentSettings) bool, mistake func(*v1alpha1.AgentSettings)) mutation {
	return mutation{name, func(r *oracle.Rendered, seed int) bool {
		s := &r.States[nodes()[seed%len(nodes())]].Spec.Settings
		if !can(s) {
			return false
		}
		mistake(s)
		return true
	}}
}

func anyRule(*v1alpha1.Rule) bool { return true }

func atLeast[T any](n int) func([]T) bool { return func(list []T) bool { return len(list) >= n } }

func mutations() []mutation {
	other := func(a v1alpha1.Action) v1alpha1.Action {
		return map[v1alpha1.Action]v1alpha1.Action{v1alpha1.Allow: v1alpha1.Deny, v1alpha1.Deny: v1alpha1.Pass, v1alpha1.Pass: v1alpha1.Allow, v1alpha1.Log: v1alpha1.Deny}[a]
	}
	return slices.Concat([]mutation{
		onRule("another action", anyRule, func(r *v1alpha1.Rule) { r.Action = other(r.Action) }),
		onRule("a rule that logs decides", func(r *v1alpha1.Rule) bool { return r.Action == v1alpha1.Log }, func(r *v1alpha1.Rule) { r.Action = v1alpha1.Allow }),
		onRule("ipVersion forgotten", func(r *v1alpha1.Rule) bool { return r.IPVersion != 0 }, func(r *v1alpha1.Rule) { r.IPVersion = 0 }),
		onRule("the other ipVersion", func(r *v1alpha1.Rule) bool { return r.IPVersion != 0 }, func(r *v1alpha1.Rule) { r.IPVersion = 10 - r.IPVersion }),
		onRule("protocol forgotten", func(r *v1alpha1.Rule) bool { return r.Protocol != nil }, func(r *v1alpha1.Rule) { r.Protocol = nil }),
		onRule("another protocol", func(r *v1alpha1.Rule) bool { return r.Protocol != nil }, func(r *v1alpha1.Rule) { r.Protocol = new(*r.Protocol ^ 23) }),
		onRule("notProtocol forgotten", func(r *v1alpha1.Rule) bool { return r.NotProtocol != nil }, func(r *v1alpha1.Rule) { r.NotProtocol = nil }),
		onRule("notProtocol as protocol", func(r *v1alpha1.Rule) bool { return r.NotProtocol != nil }, func(r *v1alpha1.Rule) { r.Protocol, r.NotProtocol = r.NotProtocol, nil }),
		onRule("icmp forgotten", func(r *v1alpha1.Rule) bool { return r.ICMP != nil }, func(r *v1alpha1.Rule) { r.ICMP = nil }),
		onRule("icmp code forgotten", func(r *v1alpha1.Rule) bool { return r.ICMP != nil && r.ICMP.Code != nil }, func(r *v1alpha1.Rule) { r.ICMP.Code = nil }),
		onRule("notICMP forgotten", func(r *v1alpha1.Rule) bool { return r.NotICMP != nil }, func(r *v1alpha1.Rule) { r.NotICMP = nil }),
		onRule("source and destination exchanged", anyRule, func(r *v1alpha1.Rule) { r.Source, r.Destination = r.Destination, r.Source }),
		onRules("a rule lost", atLeast[v1alpha1.Rule](1), func(l []v1alpha1.Rule) []v1alpha1.Rule { return l[1:] }),
		onRules("the last rule lost", atLeast[v1alpha1.Rule](1), func(l []v1alpha1.Rule) []v1alpha1.Rule { return l[:len(l)-1] }),
		onRules("rules in another order", atLeast[v1alpha1.Rule](2), func(l []v1alpha1.Rule) []v1alpha1.Rule { slices.Reverse(l); return l }),
		onRules("a rule that matches all at the beginning", atLeast[v1alpha1.Rule](0), func(l []v1alpha1.Rule) []v1alpha1.Rule {
			return slices.Insert(l, 0, v1alpha1.Rule{Action: v1alpha1.Allow})
		}),
		{"ingress and egress exchanged", func(r *oracle.Rendered, seed int) bool {
			all := sortedPrograms(r)
			if len(all) == 0 {
				return false
			}
			s := &all[seed%len(all)].Spec
			s.Ingress, s.Egress = s.Egress, s.Ingress
			return true
		}},
	}, endMutations(), setMutations(), listMutations(), hostMutations())
}

func endMutations() []mutation {
	type end = v1alpha1.EntityMatch
	return []mutation{
		onEnd("a set forgotten", func(m *end) bool { return len(m.Sets) > 0 }, func(m *end) { m.Sets = m.Sets[1:] }),
		onEnd("notSets forgotten", func(m *end) bool { return len(m.NotSets) > 0 }, func(m *end) { m.NotSets = nil }),
		onEnd("a set as notSet", func(m *end) bool { return len(m.Sets) > 0 }, func(m *end) { m.Sets, m.NotSets = nil, m.Sets }),
		onEnd("nets forgotten", func(m *end) bool { return len(m.Nets) > 0 }, func(m *end) { m.Nets = nil }),
		onEnd("a net lost", func(m *end) bool { return len(m.Nets) > 1 }, func(m *end) { m.Nets = m.Nets[1:] }),
		onEnd("notNets forgotten", func(m *end) bool { return len(m.NotNets) > 0 }, func(m *end) { m.NotNets = nil }),
		onEnd("nets as notNets", func(m *end) bool { return len(m.Nets) > 0 }, func(m *end) { m.Nets, m.NotNets = nil, m.Nets }),
		onEnd("ports forgotten", func(m *end) bool { return len(m.Ports) > 0 }, func(m *end) { m.Ports = nil }),
		onEnd("a range ends one port late", func(m *end) bool { return len(m.Ports) > 0 && m.Ports[0].Last < 65535 }, func(m *end) { m.Ports[0].Last++ }),
		onEnd("a range begins one port early", func(m *end) bool { return len(m.Ports) > 0 && m.Ports[0].First > 1 }, func(m *end) { m.Ports[0].First-- }),
		onEnd("a range ends one port early", func(m *end) bool { return len(m.Ports) > 0 && m.Ports[0].First < m.Ports[0].Last }, func(m *end) { m.Ports[0].Last-- }),
		onEnd("notPorts forgotten", func(m *end) bool { return len(m.NotPorts) > 0 }, func(m *end) { m.NotPorts = nil }),
		onEnd("named ports forgotten", func(m *end) bool { return len(m.NamedPorts) > 0 }, func(m *end) { m.NamedPorts = nil }),
		onEnd("another named port", func(m *end) bool { return len(m.NamedPorts) > 0 }, func(m *end) {
			m.NamedPorts = []string{portNames()[(slices.Index(portNames(), m.NamedPorts[0])+1)%2]}
		}),
		onEnd("notNamedPorts forgotten", func(m *end) bool { return len(m.NotNamedPorts) > 0 }, func(m *end) { m.NotNamedPorts = nil }),
		onEnd("a service's ports forgotten", func(m *end) bool { return len(m.PortSets) > 0 }, func(m *end) { m.PortSets = nil }),
	}
}

func setMutations() []mutation {
	return []mutation{
		onSet("an identity lost", func(s *v1alpha1.Set) bool { return len(s.Identities) > 0 }, func(s *v1alpha1.Set) { s.Identities = s.Identities[1:] }),
		onSet("a CIDR lost", func(s *v1alpha1.Set) bool { return len(s.CIDRs) > 0 }, func(s *v1alpha1.Set) { s.CIDRs = s.CIDRs[1:] }),
		onSet("a CIDR too many", func(*v1alpha1.Set) bool { return true }, func(s *v1alpha1.Set) { s.CIDRs = append(s.CIDRs, "10.0.0.0/29") }),
		onSet("a service's port lost", func(s *v1alpha1.Set) bool { return len(s.Members) > 0 }, func(s *v1alpha1.Set) { s.Members = s.Members[1:] }),
		{"an endpoint of no identity", func(r *oracle.Rendered, seed int) bool {
			e := r.Endpoints[nodes()[seed%2]]
			if e == nil || len(e.Spec.Endpoints) == 0 {
				return false
			}
			e.Spec.Endpoints[seed%len(e.Spec.Endpoints)].Identities = nil
			return true
		}},
		{"an endpoint's named ports lost", func(r *oracle.Rendered, seed int) bool {
			e := r.Endpoints[nodes()[seed%2]]
			if e == nil || len(e.Spec.Endpoints) == 0 {
				return false
			}
			e.Spec.Endpoints[seed%len(e.Spec.Endpoints)].Ports = nil
			return true
		}},
	}
}

func listMutations() []mutation {
	type tiers = []v1alpha1.TierPolicies
	one, two := atLeast[v1alpha1.TierPolicies](1), atLeast[v1alpha1.TierPolicies](2)
	return []mutation{
		onTiers("a tier lost", one, func(l tiers) tiers { return l[1:] }),
		onTiers("tiers in another order", two, func(l tiers) tiers { slices.Reverse(l); return l }),
		onTiers("a policy lost", one, func(l tiers) tiers { l[0].Policies = l[0].Policies[1:]; return l }),
		onTiers("policies in another order", func(l tiers) bool { return len(l) > 0 && len(l[0].Policies) > 1 }, func(l tiers) tiers { slices.Reverse(l[0].Policies); return l }),
		onTiers("another default action", one, func(l tiers) tiers {
			last := &l[len(l)-1]
			if last.DefaultAction == v1alpha1.Pass {
				last.DefaultAction = v1alpha1.Deny
			} else {
				last.DefaultAction = v1alpha1.Pass
			}
			return l
		}),
	}
}

func hostMutations() []mutation {
	type host = v1alpha1.HostEndpoint
	type settings = v1alpha1.AgentSettings
	always := func(*host) bool { return true }
	return []mutation{
		onHost("another default of a host endpoint", always, func(h *host) {
			if h.DefaultAction == v1alpha1.Allow {
				h.DefaultAction = v1alpha1.Deny
			} else {
				h.DefaultAction = v1alpha1.Allow
			}
		}),
		onHost("local policies for what is forwarded", func(h *host) bool { return len(h.Local.Ingress)+len(h.Local.Egress) > 0 }, func(h *host) { h.Forward = h.Local }),
		onHost("forward policies forgotten", func(h *host) bool { return len(h.Forward.Ingress)+len(h.Forward.Egress) > 0 }, func(h *host) { h.Forward = v1alpha1.DirectionPolicies{} }),
		onHost("preDNAT policies after translation", func(h *host) bool { return len(h.PreDNAT) > 0 }, func(h *host) { h.PreDNAT, h.Forward.Ingress = nil, h.PreDNAT }),
		onHost("untracked policies forgotten", func(h *host) bool { return len(h.Untracked.Ingress)+len(h.Untracked.Egress) > 0 }, func(h *host) { h.Untracked = v1alpha1.DirectionPolicies{} }),
		onHost("another interface", func(h *host) bool { return h.Interface == "eth0" }, func(h *host) { h.Interface = "eth1" }),
		onSettings("a failsafe port lost", func(s *settings) bool { return len(s.FailsafeInbound) > 0 }, func(s *settings) { s.FailsafeInbound = s.FailsafeInbound[1:] }),
		onSettings("a failsafe net forgotten", func(s *settings) bool { return len(s.FailsafeInbound) > 0 && s.FailsafeInbound[0].Net != "" }, func(s *settings) { s.FailsafeInbound[0].Net = "" }),
		onSettings("another endpoint to host action", func(*settings) bool { return true }, func(s *settings) {
			s.EndpointToHostAction = map[string]string{"Accept": "Drop", "Drop": "Accept", "": "Accept", "Return": "Drop"}[s.EndpointToHostAction]
		}),
		onSettings("IPIP from pods", func(s *settings) bool { return !s.AllowIPIPFromPods }, func(s *settings) { s.AllowIPIPFromPods = true }),
		onSettings("VXLAN from pods", func(s *settings) bool { return !s.AllowVXLANFromPods }, func(s *settings) { s.AllowVXLANFromPods = true }),
	}
}

// trial is a world with its flows and what should become of them.
type trial struct {
	world *oracle.World
	flows []oracle.Flow
	want  []oracle.Verdict
}

// trials are worlds that are the same in every run.
type trials struct{ list []*trial }

func (all *trials) at(i int) *trial {
	for len(all.list) <= i {
		w := rapid.Custom(drawWorld).Example(len(all.list))
		x := &trial{world: w, flows: flows(w, len(all.list))}
		users := w.Users()
		for _, f := range x.flows {
			x.want = append(x.want, users.Verdict(f))
		}
		all.list = append(all.list, x)
	}
	return all.list[i]
}

// caught is a flow of the trial on which rendered state decides in another way than it should.
func (x *trial) caught(r *oracle.Rendered) (oracle.Flow, bool) {
	tables, err := r.Tables(x.world.Network())
	if err != nil {
		return oracle.Flow{}, false // an agent would not take it
	}
	e := tables.Evaluator(x.world.Network())
	for i, f := range x.flows {
		if v := e.Verdict(f); !v.Equal(x.want[i]) {
			return f, true
		}
	}
	return oracle.Flow{}, false
}

// worldsEnough is in how many random worlds a mistake must be seen at least once. Most are within ten.
const worldsEnough = 600

// Each of these mistakes of the compiler, made in one place, is caught by the comparison.
func TestMistakesInWhatIsRenderedAreCaught(t *testing.T) {
	all := &trials{}
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			made := 0
			for i := range worldsEnough {
				x := all.at(i)
				r, err := compile(x.world)
				if err != nil {
					t.Fatal(err)
				}
				if !m.make(r, i) {
					continue
				}
				made++
				if f, caught := x.caught(r); caught {
					t.Logf("caught in world %d, the mistake's number %d, by %s", i, made, f)
					return
				}
			}
			t.Errorf("in none of %d worlds, of which %d have a place for it", worldsEnough, made)
		})
	}
}

// forget makes a compiler that forgets what an ingress rule says of addresses that do not match.
func forget(r *oracle.Rendered) {
	for _, p := range sortedPrograms(r) {
		for i := range p.Spec.Ingress {
			p.Spec.Ingress[i].Source.NotNets = nil
		}
	}
}

// A cluster that fails becomes the smallest that still does: manifests that the API server takes, of what matters alone.
func TestFailuresShrinkToASmallCluster(t *testing.T) {
	forgetful := func(w *oracle.World, f oracle.Flow) string {
		r, err := compile(w)
		if err != nil {
			return ""
		}
		forget(r)
		return differsFrom(r, w, f)
	}
	all := &trials{}
	for i := range worldsEnough {
		w := all.at(i).world
		r, err := compile(w)
		if err != nil {
			t.Fatal(err)
		}
		forget(r)
		f, caught := all.at(i).caught(r)
		if !caught {
			continue
		}
		small := (&failure{world: w, flow: f, differs: forgetful, most: askInMemory}).explain(t)
		policies := len(small.KubernetesPolicies) + len(small.NetworkPolicies) + len(small.GlobalPolicies) + len(small.ClusterPolicies)
		if rest := len(small.NetworkSets) + len(small.GlobalNetworkSets) + len(small.EndpointSlices) + len(small.Pools); policies > 2 || rest > 0 || len(small.Pods) > 2 {
			t.Errorf("%d policies, %d pods and %d other things are left", policies, len(small.Pods), rest)
		}
		again := &oracle.World{Interfaces: small.Interfaces, Translations: small.Translations}
		if err := again.Add(small.Manifests()); err != nil {
			t.Fatal(err)
		}
		if forgetful(again, f) == "" {
			t.Error("the manifests do not show it")
		}
		return
	}
	t.Error("no cluster shows the mistake")
}

// Packets show a mistake in what a kernel is told on every dataplane.
func TestMistakesInKernelsAreCaught(t *testing.T) {
	all := openKernels(t, everyPlace())
	worlds := &trials{}
	for _, m := range mutations() {
		if !slices.Contains([]string{"another action", "a rule lost", "another default action", "nets as notNets"}, m.name) {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			for i := range worldsEnough {
				w := worlds.at(i).world
				r, err := compile(w)
				if err != nil {
					t.Fatal(err)
				}
				if !m.make(r, i) {
					continue
				}
				f, caught := worlds.at(i).caught(r)
				flows := kernels.Showable([]oracle.Flow{f}, w.Network(), w.Users())
				if !caught || len(flows) == 0 {
					continue
				}
				if err := all.Become(w.Network(), func() (oracle.Tables, error) { return r.Tables(w.Network()) }); err != nil {
					t.Fatal(err)
				}
				differences, err := all.Send(w.Network(), flows)
				if err != nil {
					t.Fatal(err)
				}
				if len(differences) != len(all) {
					t.Errorf("of %d dataplanes %d show it: %s", len(all), len(differences), f)
				}
				return
			}
			t.Error("in no world")
		})
	}
}
