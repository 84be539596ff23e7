package render

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// endpoint is a pod of this node: one that the operator named, or that holds addresses, or both.
type endpoint struct {
	// wanted is what the operator says; nil: it does not name the endpoint.
	wanted *list
	// current is the list in force: wanted, or an earlier one of the same pod while wanted waits; nil: none.
	current *list
	// locals are the addresses held under the endpoint's name, by UID of the pod: for a moment two pods may bear it.
	locals map[string][]netip.Addr
	// waits names the programs that wanted waits for.
	waits []string
	// floating are the addresses that are translated to the endpoint's.
	floating []netip.Addr
}

// list is what applies to an endpoint.
type list struct {
	uid             string
	identity        string
	ingress, egress []tables.Tier
	ports           []v1alpha1.NamedPort
	sourcePrefixes  []netip.Prefix
	floating        []v1alpha1.FloatingAddress
	limits          tables.Limits
	packets         tables.PacketLimits
}

func (l *list) programs() []string { return programsOf(l.ingress, l.egress) }

// programsOf lists the programs that lists of tiers name, in order and without repetition.
func programsOf(lists ...[]tables.Tier) []string {
	var names []string
	for _, tiers := range lists {
		for _, t := range tiers {
			names = append(names, t.Programs...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SetNodeState takes news of what is local to the node. There is no deleting it: without the operator the node goes on
// as it is.
func (s *State) SetNodeState(spec *v1alpha1.NodeStateSpec) {
	named := make(map[string]bool, len(spec.Endpoints))
	for i := range spec.Endpoints {
		e := &spec.Endpoints[i]
		named[e.ID] = true
		wanted, err := newList(e)
		s.problem(KindEndpoint, e.ID, err)
		s.endpoint(e.ID).wanted = wanted
		s.resolve(e.ID)
	}
	for id, e := range s.endpoints {
		if !named[id] && e.wanted != nil {
			e.wanted = nil
			s.problem(KindEndpoint, id, nil)
			s.resolve(id)
		}
	}
	s.setHosts(spec.HostEndpoints)
	var problem error
	blocks := make([]netip.Prefix, 0, len(spec.Blocks))
	for i := range spec.Blocks {
		block, err := netip.ParsePrefix(spec.Blocks[i].CIDR)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("reading block: %w", err))
			continue
		}
		blocks = append(blocks, block.Masked())
	}
	s.setOwnBlocks(blocks)
	problem = errors.Join(problem, s.setPools(spec.Pools), s.setTunnels(spec), s.setBGP(spec))
	s.setLoops(&spec.Settings)
	want, err := settings(spec.Settings)
	s.setPeering(&want)
	want.Tunnels = slices.Sorted(maps.Keys(s.tunnels.wanted))
	want.IPVS = s.hasIPVS()
	s.problem(KindNodeState, s.node, errors.Join(problem, err))
	if !want.Equal(s.policy.Settings) {
		s.policy.Settings, s.policy.SettingsDirty = want, true
	}
}

func (s *State) setPools(pools []v1alpha1.Pool) error {
	var problem error
	wanted := make(map[netip.Prefix]bool, len(pools))
	for _, p := range pools {
		cidr, err := netip.ParsePrefix(p.CIDR)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("reading pool: %w", err))
			continue
		}
		wanted[cidr.Masked()] = true
		s.policy.Pools.Set(cidr.Masked(), tables.Pool{NATOutgoing: p.NATOutgoing})
	}
	for cidr := range s.policy.Pools.All() {
		if !wanted[cidr] {
			s.policy.Pools.Delete(cidr)
		}
	}
	return problem
}

// SetLocal takes the news that the pod holds the addresses, whether the operator knows of it or not.
func (s *State) SetLocal(id, uid string, addrs []netip.Addr) {
	e := s.endpoint(id)
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, compareAddrs)
	old := e.locals[uid]
	e.locals[uid] = addrs
	s.moveRoutes(InterfaceName(id), old, addrs)
	s.peersChanged(id)
	s.resolve(id)
}

// DeleteLocal takes the news that the pod holds no addresses any more.
func (s *State) DeleteLocal(id, uid string) {
	e := s.endpoints[id]
	if e == nil {
		return
	}
	s.moveRoutes(InterfaceName(id), e.locals[uid], nil)
	delete(e.locals, uid)
	s.peersChanged(id)
	s.resolve(id)
}

// Unready says why the pod's policy is not in the tables as the operator wants it; "" when it is.
func (s *State) Unready(id, uid string) string {
	e := s.endpoints[id]
	switch {
	case e == nil || e.wanted == nil:
		return "the node's state does not name the pod yet"
	case uid != "" && e.wanted.uid != uid:
		return fmt.Sprintf("the node's state names an earlier pod of that name, with UID %s", e.wanted.uid)
	case len(e.waits) > 0:
		return "its policies wait for " + named(KindPolicyProgram+" ", e.waits)
	case e.current == nil:
		return "its policies are not known"
	}
	return ""
}

func (s *State) endpoint(id string) *endpoint {
	e := s.endpoints[id]
	if e == nil {
		e = &endpoint{locals: map[string][]netip.Addr{}}
		s.endpoints[id] = e
	}
	return e
}

// resolve puts into the tables what can be put there of an endpoint.
func (s *State) resolve(id string) {
	e := s.endpoints[id]
	for _, name := range e.waits {
		s.waitingForProgram.remove(name, id)
	}
	e.waits = nil
	if e.wanted == nil && len(e.locals) == 0 {
		s.replaceList(e, nil)
		s.policy.Endpoints.Delete(InterfaceName(id))
		s.setFloating(id, e, nil)
		s.bandwidth.Delete(InterfaceName(id))
		s.packetLimits.Delete(InterfaceName(id))
		s.contributeLocal(id, nil, nil)
		delete(s.endpoints, id)
		return
	}
	if e.wanted != nil {
		e.waits = s.missingPrograms(e.wanted.programs())
		for _, name := range e.waits {
			s.waitingForProgram.add(name, id)
		}
	}
	next := e.current
	switch {
	case e.wanted == nil:
		next = nil
	case len(e.waits) == 0:
		next = e.wanted
	case next != nil && next.uid != e.wanted.uid:
		next = nil // what applied to another pod of that name says nothing of this one
	}
	addrs := e.addresses()
	desired := tables.Endpoint{Addresses: addrs, Unknown: next == nil}
	if next != nil {
		desired.Ingress, desired.Egress = next.ingress, next.egress
		desired.SourcePrefixes = next.sourcePrefixes
	}
	old := e.current
	s.useList(next)
	s.policy.Endpoints.Set(InterfaceName(id), desired)
	e.current = next
	s.unuseList(old)
	s.setFloating(id, e, addrs)
	if e.wanted != nil && e.wanted.limits != (tables.Limits{}) {
		s.bandwidth.Set(InterfaceName(id), e.wanted.limits)
	} else {
		s.bandwidth.Delete(InterfaceName(id))
	}
	if e.wanted != nil && e.wanted.packets != (tables.PacketLimits{}) {
		s.packetLimits.Set(InterfaceName(id), e.wanted.packets)
	} else {
		s.packetLimits.Delete(InterfaceName(id))
	}
	s.contributeLocal(id, e.wanted, addrs)
}

// addresses are those that the endpoint may send from.
func (e *endpoint) addresses() []netip.Addr {
	if e.wanted != nil {
		return e.locals[e.wanted.uid]
	}
	var all []netip.Addr
	for _, addrs := range e.locals {
		all = append(all, addrs...)
	}
	slices.SortFunc(all, compareAddrs)
	return slices.Compact(all)
}

func (s *State) missingPrograms(programs []string) []string {
	var missing []string
	for _, name := range programs {
		if p := s.programs[name]; p == nil || !p.current {
			missing = append(missing, name)
		}
	}
	return missing
}

func (s *State) replaceList(e *endpoint, next *list) {
	old := e.current
	s.useList(next)
	e.current = next
	s.unuseList(old)
}

func (s *State) useList(l *list) {
	if l == nil {
		return
	}
	for _, name := range l.programs() {
		s.useProgram(name)
	}
}

func (s *State) unuseList(l *list) {
	if l == nil {
		return
	}
	for _, name := range l.programs() {
		s.unuseProgram(name)
	}
}

// contributeLocal makes the endpoint a member of sets at once: the node's own NodeEndpoints says the same, but later.
func (s *State) contributeLocal(id string, l *list, addrs []netip.Addr) {
	source := "/" + id // no node's name has a slash
	var r remote
	if l != nil && l.identity != "" {
		r.add(intern([]string{l.identity}), addrs, l.ports)
	}
	if len(r.addrs) == 0 && len(s.remotes[source].addrs) == 0 {
		return
	}
	s.contribute(source, r)
	if len(r.addrs) == 0 {
		delete(s.remotes, source)
	}
}
