package render

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

const self = "worker1"

// world is what the operator has published at some moment, and what addresses the node's pods hold.
type world struct {
	state     v1alpha1.NodeStateSpec
	programs  map[string]v1alpha1.PolicyProgramSpec
	catalogs  map[string]v1alpha1.SetCatalogSpec
	endpoints map[string]v1alpha1.NodeEndpointsSpec
	networks  map[string]v1alpha1.NodeNetworkSpec
	locals    map[[2]string][]netip.Addr
	// interfaces of the node with their addresses.
	interfaces map[string][]netip.Addr
}

// drawWorld makes a consistent world: endpoints name programs that exist, programs name sets that exist.
func drawWorld(t *rapid.T) *world {
	w := &world{
		programs:  map[string]v1alpha1.PolicyProgramSpec{},
		catalogs:  map[string]v1alpha1.SetCatalogSpec{},
		endpoints: map[string]v1alpha1.NodeEndpointsSpec{},
		networks:  map[string]v1alpha1.NodeNetworkSpec{},
		locals:    map[[2]string][]netip.Addr{},
	}
	some := func(label string, of ...string) []string {
		return slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, len(of), rapid.ID[string]).Draw(t, label)))
	}
	identities := []string{"i1", "i2", "i3"}
	sets := some("sets", "aa1", "aa2", "bb1", "cc1")
	for _, id := range sets {
		shard := "sets-" + id[:2]
		spec := w.catalogs[shard]
		spec.Sets = append(spec.Sets, v1alpha1.Set{
			ID: id, Identities: some("identities", identities...), CIDRs: some("cidrs", "10.0.0.1/32", "10.48.0.1/32", "192.0.2.0/24"),
		})
		w.catalogs[shard] = spec
	}
	portSets := some("sets of ports", "aa9", "dd1")
	for _, id := range portSets {
		set := v1alpha1.Set{ID: id, OfPorts: true}
		for _, port := range []int32{80, 81} {
			set.Members = append(set.Members, v1alpha1.PortMembers{Protocol: 6, Port: port, Addresses: some("members", "10.48.0.1", "10.48.1.1", "fd00::1")})
		}
		shard := "sets-" + id[:2]
		w.catalogs[shard] = v1alpha1.SetCatalogSpec{Sets: append(w.catalogs[shard].Sets, set)}
	}
	programs := some("programs", "gnp.a", "gnp.b", "np.x.c")
	for _, name := range programs {
		var rules []v1alpha1.Rule
		for range rapid.IntRange(0, 2).Draw(t, "rules") {
			r := v1alpha1.Rule{Action: rapid.SampledFrom([]v1alpha1.Action{v1alpha1.Allow, v1alpha1.Deny}).Draw(t, "action")}
			if len(sets) > 0 {
				r.Source.Sets = some("source", sets...)
			}
			if len(portSets) > 0 {
				r.Destination.PortSets = some("port sets", portSets...)
			}
			r.Destination.NamedPorts = some("named ports", "http", "dns")
			rules = append(rules, r)
		}
		w.programs[name] = v1alpha1.PolicyProgramSpec{Ingress: rules}
	}
	for _, pod := range some("pods", "n/a", "n/b") {
		e := v1alpha1.Endpoint{
			ID:       pod,
			UID:      types.UID(rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "uid")),
			Identity: rapid.SampledFrom(identities).Draw(t, "identity"),
			Ports:    []v1alpha1.NamedPort{{Name: "http", Protocol: 6, Port: rapid.Int32Range(80, 81).Draw(t, "port")}},
		}
		if len(programs) > 0 && rapid.Bool().Draw(t, "has policies") {
			e.Ingress = []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: some("policies", programs...)}}
		}
		e.SourcePrefixes = some("source prefixes", "192.0.2.0/24", "fd01::/64")
		w.state.Endpoints = append(w.state.Endpoints, e)
	}
	w.drawHosts(t, programs)
	for _, cidr := range some("blocks", "10.48.0.0/26", "10.48.0.64/26") {
		w.state.Blocks = append(w.state.Blocks, v1alpha1.BlockLease{CIDR: cidr})
	}
	for _, cidr := range some("pools", "10.48.0.0/16", "fd00::/48") {
		w.state.Pools = append(w.state.Pools, v1alpha1.Pool{CIDR: cidr, NATOutgoing: rapid.Bool().Draw(t, "nat")})
	}
	for _, node := range some("nodes", self, "worker2", "worker3") {
		var spec v1alpha1.NodeEndpointsSpec
		for _, addr := range some("addresses", "10.48.0.1", "10.48.1.1", "10.48.1.2") {
			spec.Endpoints = append(spec.Endpoints, v1alpha1.RemoteEndpoint{
				ID: "r/" + addr, Identities: some("remote identities", identities...), Addresses: []string{addr},
				Ports: []v1alpha1.NamedPort{{Name: "dns", Protocol: 17, Port: 53}},
			})
		}
		w.endpoints[node] = spec
		w.networks[node] = v1alpha1.NodeNetworkSpec{
			Addresses: []string{"192.168.0." + node[len(node)-1:]},
			Blocks:    some("remote blocks", "10.48.0.64/26", "10.48.1.0/26"),
		}
	}
	for _, pod := range some("local pods", "n/a", "n/b") {
		for i, uid := range some("local uids", "u1", "u2") {
			w.locals[[2]string{pod, uid}] = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.48.0.%d%d", pod[2]-'a'+1, i))}
		}
	}
	return w
}

// drawHosts makes interfaces and host endpoints that name programs.
func (w *world) drawHosts(t *rapid.T, programs []string) {
	some := func(label string, of ...string) []string {
		return slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, len(of), rapid.ID[string]).Draw(t, label)))
	}
	w.interfaces = map[string][]netip.Addr{}
	for _, iface := range some("interfaces", "eth0", "eth1", "lo", "calix") {
		for _, addr := range some("interface addresses", "192.168.0.1", "192.168.0.2", "fd00::1") {
			w.interfaces[iface] = append(w.interfaces[iface], netip.MustParseAddr(addr))
		}
	}
	list := func(label string) []v1alpha1.TierPolicies {
		if len(programs) == 0 {
			return nil
		}
		if names := some(label, programs...); len(names) > 0 {
			return []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: names}}
		}
		return nil
	}
	for _, name := range some("host endpoints", "h1", "h2", "h3", "h4") {
		w.state.HostEndpoints = append(w.state.HostEndpoints, v1alpha1.HostEndpoint{
			Name:          name,
			Interface:     rapid.SampledFrom([]string{"", "*", "eth0", "eth1"}).Draw(t, "interface"),
			Addresses:     some("expected", "192.168.0.1", "192.168.0.2", "fd00::1"),
			DefaultAction: rapid.SampledFrom([]v1alpha1.Action{v1alpha1.Allow, v1alpha1.Deny}).Draw(t, "default action"),
			Local:         v1alpha1.DirectionPolicies{Ingress: list("local ingress"), Egress: list("local egress")},
			Forward:       v1alpha1.DirectionPolicies{Ingress: list("forward")},
			PreDNAT:       list("before DNAT"),
			Untracked:     v1alpha1.DirectionPolicies{Egress: list("untracked")},
		})
	}
	w.state.Settings.FailsafeInbound = []v1alpha1.FailsafePort{{Protocol: 6, Port: rapid.Int32Range(22, 23).Draw(t, "failsafe port")}}
}

// news are the calls that lead from one world to the next. Any order of them, with repetitions, is a possible arrival.
func (w *world) news(before *world) []func(*State) {
	calls := []func(*State){func(s *State) { s.SetNodeState(&w.state) }, func(s *State) { s.SetInterfaces(w.interfaces) }}
	calls = append(calls, changes(before.programs, w.programs,
		func(s *State, n string, x v1alpha1.PolicyProgramSpec) { s.SetProgram(n, 1, &x) },
		func(s *State, n string) { s.DeleteProgram(n) })...)
	calls = append(calls, changes(before.catalogs, w.catalogs,
		func(s *State, n string, x v1alpha1.SetCatalogSpec) { s.SetCatalog(n, &x) },
		func(s *State, n string) { s.DeleteCatalog(n) })...)
	calls = append(calls, changes(before.endpoints, w.endpoints,
		func(s *State, n string, x v1alpha1.NodeEndpointsSpec) { s.SetEndpoints(n, &x) },
		func(s *State, n string) { s.DeleteEndpoints(n) })...)
	calls = append(calls, changes(before.networks, w.networks,
		func(s *State, n string, x v1alpha1.NodeNetworkSpec) { s.SetNetwork(n, &x) },
		func(s *State, n string) { s.DeleteNetwork(n) })...)
	calls = append(calls, changes(before.locals, w.locals,
		func(s *State, o [2]string, x []netip.Addr) { s.SetLocal(o[0], o[1], x) },
		func(s *State, o [2]string) { s.DeleteLocal(o[0], o[1]) })...)
	return calls
}

func changes[K comparable, V any](before, after map[K]V, set func(*State, K, V), remove func(*State, K)) []func(*State) {
	var calls []func(*State)
	for k, v := range after {
		calls = append(calls, func(s *State) { set(s, k, v) })
	}
	for k := range before {
		if _, stays := after[k]; !stays {
			calls = append(calls, func(s *State) { remove(s, k) })
		}
	}
	return calls
}

// shot is what the tables hold.
type shot struct {
	Endpoints map[string]tables.Endpoint
	Hosts     map[string]tables.HostEndpoint
	Programs  map[string]tables.Program
	Sets      map[string]tables.SetType
	Members   map[tables.Member]struct{}
	Pools     map[netip.Prefix]tables.Pool
	Routes    map[netip.Prefix]tables.Route
	Settings  tables.Settings
}

func take(s *State) shot {
	p := s.Policy()
	return shot{
		maps.Collect(p.Endpoints.All()), maps.Collect(p.HostEndpoints.All()), maps.Collect(p.Programs.All()), maps.Collect(p.Sets.All()),
		maps.Collect(p.Members.All()), maps.Collect(p.Pools.All()), maps.Collect(s.Routes().All()), p.Settings,
	}
}

func diff(want, got shot) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty())
}

// sizes are those of all that a state keeps.
func sizes(s *State) map[string]int {
	return map[string]int{
		"endpoints": len(s.endpoints), "hosts": len(s.hosts), "placed": len(s.placed), "hosts waiting": len(s.hostsWaiting), "programs": len(s.programs), "sets": len(s.sets), "shards": len(s.shards),
		"remotes": len(s.remotes), "networks": len(s.networks), "destinations": len(s.dests),
		"waiting for sets": len(s.waitingForSet), "waiting for programs": len(s.waitingForProgram),
		"addresses": len(s.members.addrs), "users": len(s.members.users), "ports": len(s.members.ports),
		"used ports": len(s.members.usedPorts), "counts": len(s.members.more),
	}
}

func arrive(t *rapid.T, s *State, calls []func(*State), after func()) {
	order := rapid.Permutation(calls).Draw(t, "order")
	for _, call := range order {
		call(s)
		after()
		if rapid.IntRange(0, 4).Draw(t, "again") == 0 {
			call(s)
			after()
		}
	}
}

func TestTablesDoNotDependOnTheOrderOfArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		empty := &world{}
		worlds := []*world{drawWorld(t), drawWorld(t), drawWorld(t)}
		s := New(self)
		published := map[string][]tables.Program{}
		before := empty
		for _, w := range worlds {
			for name, spec := range w.programs {
				f, err := newForm(1, &spec)
				if err != nil {
					t.Fatal(err)
				}
				published[name] = append(published[name], f.rules)
			}
			arrive(t, s, w.news(before), func() { checkWhole(t, s, worlds, published) })
			before = w
		}
		fresh := New(self)
		for _, call := range before.news(empty) {
			call(fresh)
		}
		if d := diff(take(fresh), take(s)); d != "" {
			t.Fatalf("tables differ from those of a node that only ever knew the last world (-want +got):\n%s", d)
		}
		if d := cmp.Diff(sizes(fresh), sizes(s)); d != "" {
			t.Fatalf("something is kept that nobody refers to (-want +got):\n%s", d)
		}
		if held := s.Held(); len(held) > 0 {
			t.Fatalf("held back in a consistent world: %v", held)
		}
		if d := cmp.Diff(fresh.Problems(), s.Problems()); d != "" {
			t.Fatalf("problems (-want +got):\n%s", d)
		}
		for item := range s.Problems() {
			if item.Kind != KindHostEndpoint { // of which some got no interface
				t.Fatalf("problems: %v", s.Problems())
			}
		}
	})
}

// checkWhole fails when the tables hold half of the news.
func checkWhole(t *rapid.T, s *State, worlds []*world, published map[string][]tables.Program) {
	p := s.Policy()
	named := map[string]bool{}
	for iface, e := range p.Endpoints.All() {
		if e.Unknown && (len(e.Ingress) > 0 || len(e.Egress) > 0) {
			t.Fatalf("endpoint %s is unknown and has policies", iface)
		}
		for _, tier := range slices.Concat(e.Ingress, e.Egress) {
			for _, name := range tier.Programs {
				named[name] = true
				if _, ok := p.Programs.Get(name); !ok {
					t.Fatalf("endpoint %s names program %s, which is not there", iface, name)
				}
			}
		}
		if !e.Unknown && !slices.ContainsFunc(worlds, func(w *world) bool { return w.gave(iface, e) }) {
			t.Fatalf("endpoint %s has a list that was never published: %+v", iface, e)
		}
	}
	for iface, h := range p.HostEndpoints.All() {
		for _, name := range programsOfHost(h) {
			named[name] = true
			if _, ok := p.Programs.Get(name); !ok {
				t.Fatalf("the host endpoint of %s names program %s, which is not there", iface, name)
			}
		}
		if h.Unknown && len(programsOfHost(h)) > 0 {
			t.Fatalf("the host endpoint of %s is unknown and has policies", iface)
		}
		if !h.Unknown && !slices.ContainsFunc(worlds, func(w *world) bool { return w.gaveHost(s.HostEndpoint(iface), h) }) {
			t.Fatalf("the host endpoint of %s has lists that were never published together: %+v", iface, h)
		}
	}
	needed := map[string]bool{}
	for name, program := range p.Programs.All() {
		if !named[name] {
			t.Fatalf("program %s is there and no endpoint names it", name)
		}
		if !slices.ContainsFunc(published[name], func(x tables.Program) bool {
			return cmp.Equal(x, program, cmpopts.EquateComparable(netip.Prefix{}))
		}) {
			t.Fatalf("program %s has a form that was never published", name)
		}
		for _, r := range slices.Concat(program.Ingress, program.Egress) {
			for _, id := range slices.Concat(r.Source.Sets, r.Source.NotSets, r.Destination.PortSets) {
				needed[id] = true
				if _, ok := p.Sets.Get(id); !ok {
					t.Fatalf("program %s names set %s, which is not there", name, id)
				}
			}
		}
	}
	for id := range p.Sets.All() {
		if !needed[id] {
			t.Fatalf("set %s is there and no program names it", id)
		}
	}
	for m := range p.Members.All() {
		kind, ok := p.Sets.Get(m.Set)
		if !ok {
			t.Fatalf("member %v of a set that is not there", m)
		}
		if kind == tables.Addresses && !m.Prefix.IsSingleIP() {
			t.Fatalf("member %v of a set of addresses", m)
		}
	}
}

func (w *world) gave(iface string, e tables.Endpoint) bool {
	return slices.ContainsFunc(w.state.Endpoints, func(x v1alpha1.Endpoint) bool {
		return InterfaceName(x.ID) == iface && cmp.Equal(tiers(x.Ingress), e.Ingress) && cmp.Equal(tiers(x.Egress), e.Egress)
	})
}

func programsOfHost(h tables.HostEndpoint) []string {
	return programsOf(h.Untracked.Ingress, h.Untracked.Egress, h.PreDNAT, h.Forward.Ingress, h.Forward.Egress, h.Local.Ingress, h.Local.Egress)
}

func (w *world) gaveHost(name string, h tables.HostEndpoint) bool {
	return slices.ContainsFunc(w.state.HostEndpoints, func(x v1alpha1.HostEndpoint) bool {
		return x.Name == name && cmp.Equal(newHostList(&x).desired, h)
	})
}

// Members are exactly those that the definition of a set gives, at every moment.
func TestMembersFollowIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(self)
		before := &world{}
		for range 3 {
			w := drawWorld(t)
			arrive(t, s, w.news(before), func() {})
			for id, kind := range s.Policy().Sets.All() {
				want := map[tables.Member]struct{}{}
				if kind == tables.NamedPorts {
					continue
				}
				for _, m := range w.membersOf(id) {
					want[tables.Member{Set: id, Prefix: m}] = struct{}{}
				}
				got := map[tables.Member]struct{}{}
				for m := range s.Policy().Members.All() {
					if m.Set == id {
						got[m] = struct{}{}
					}
				}
				if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
					t.Fatalf("members of %s (-want +got):\n%s", id, d)
				}
			}
			before = w
		}
	})
}

// membersOf is the definition, written down slowly.
func (w *world) membersOf(id string) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range w.catalogs {
		for _, set := range c.Sets {
			if set.ID != id {
				continue
			}
			for _, cidr := range set.CIDRs {
				out = append(out, netip.MustParsePrefix(cidr))
			}
			for _, who := range set.Identities {
				for _, node := range w.endpoints {
					for _, e := range node.Endpoints {
						if slices.Contains(e.Identities, who) {
							a := netip.MustParseAddr(e.Addresses[0])
							out = append(out, netip.PrefixFrom(a, a.BitLen()))
						}
					}
				}
				for _, e := range w.state.Endpoints {
					if e.Identity == who {
						for _, a := range w.locals[[2]string{e.ID, string(e.UID)}] {
							out = append(out, netip.PrefixFrom(a, a.BitLen()))
						}
					}
				}
			}
		}
	}
	return out
}
