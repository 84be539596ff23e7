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
	// locals are what is held under the endpoint's name, by UID of the pod and interface: for a moment two pods may bear it.
	locals map[localKey]Local
	// others are the host-side interfaces beside the first that are in the tables.
	others []string
	// waits names the programs that wanted waits for.
	waits []string
	// floating are the addresses that are translated to the endpoint's.
	floating []netip.Addr
}

// Local is an interface of a pod and the addresses that it holds.
type Local struct {
	// UID of the pod.
	UID string
	// Interface is its name in the pod if it is one beside the pod's first.
	Interface string
	Addresses []netip.Addr
	// Unrouted: another plugin of the network configuration sees to routes.
	Unrouted bool
}

type localKey struct{ uid, iface string }

// routed are the addresses to which the node has routes of ours.
func (l Local) routed() []netip.Addr {
	if l.Unrouted {
		return nil
	}
	return l.Addresses
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

// SetLocal takes the news that the pod's first interface holds the addresses, whether the operator knows of it or not.
func (s *State) SetLocal(id, uid string, addrs []netip.Addr) {
	s.SetInterface(id, Local{UID: uid, Addresses: addrs})
}

// DeleteLocal takes the news that the pod's first interface holds no addresses any more.
func (s *State) DeleteLocal(id, uid string) { s.DeleteInterface(id, uid, "") }

// SetInterface takes the news that an interface of the pod holds addresses, whether the operator knows of it or not.
func (s *State) SetInterface(id string, l Local) {
	e := s.endpoint(id)
	l.Addresses = slices.Clone(l.Addresses)
	slices.SortFunc(l.Addresses, compareAddrs)
	key := localKey{l.UID, l.Interface}
	old := e.locals[key]
	e.locals[key] = l
	s.moveRoutes(HostInterface(id, l.Interface), old.routed(), l.routed())
	s.peersChanged(id)
	s.resolve(id)
}

// DeleteInterface takes the news that an interface of the pod holds no addresses any more.
func (s *State) DeleteInterface(id, uid, iface string) {
	e := s.endpoints[id]
	if e == nil {
		return
	}
	key := localKey{uid, iface}
	s.moveRoutes(HostInterface(id, iface), e.locals[key].routed(), nil)
	delete(e.locals, key)
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
		e = &endpoint{locals: map[localKey]Local{}}
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
		s.setLimits(InterfaceName(id), nil)
		s.setOthers(id, e, tables.Endpoint{})
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
	addrs := e.addresses("")
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
	s.setLimits(InterfaceName(id), e.wanted)
	s.setOthers(id, e, desired)
	all := addrs
	for _, iface := range e.otherInterfaces() {
		all = append(slices.Clip(all), e.addresses(iface)...)
	}
	s.contributeLocal(id, e.wanted, all)
}

// setLimits puts the limits of a list into the tables for an interface; nil: there are none.
func (s *State) setLimits(iface string, l *list) {
	if l != nil && l.limits != (tables.Limits{}) {
		s.bandwidth.Set(iface, l.limits)
	} else {
		s.bandwidth.Delete(iface)
	}
	if l != nil && l.packets != (tables.PacketLimits{}) {
		s.packetLimits.Set(iface, l.packets)
	} else {
		s.packetLimits.Delete(iface)
	}
}

// setOthers puts into the tables the endpoint's interfaces beside its first: with addresses of their own, and otherwise like it.
func (s *State) setOthers(id string, e *endpoint, like tables.Endpoint) {
	var names []string
	for _, iface := range e.otherInterfaces() {
		name := HostInterface(id, iface)
		names = append(names, name)
		like.Addresses = e.addresses(iface)
		s.policy.Endpoints.Set(name, like)
		s.setLimits(name, e.wanted)
	}
	for _, name := range e.others {
		if !slices.Contains(names, name) {
			s.policy.Endpoints.Delete(name)
			s.setLimits(name, nil)
		}
	}
	e.others = names
}

// otherInterfaces are the names in the pod of the interfaces beside the first, in order.
func (e *endpoint) otherInterfaces() []string {
	var names []string
	for key := range e.locals {
		if key.iface != "" && (e.wanted == nil || e.wanted.uid == key.uid) {
			names = append(names, key.iface)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// addresses are those that the endpoint may send from by an interface.
func (e *endpoint) addresses(iface string) []netip.Addr {
	if e.wanted != nil {
		return e.locals[localKey{e.wanted.uid, iface}].Addresses
	}
	var all []netip.Addr
	for key, l := range e.locals {
		if key.iface == iface {
			all = append(all, l.Addresses...)
		}
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
