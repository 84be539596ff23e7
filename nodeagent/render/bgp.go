package render

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/advertise"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	bgpPort    = 179 // RFC 4271
	meshPrefix = v1alpha1.MeshGroup + "/"
)

// bgp is what is known about BGP beside the tables.
type bgp struct {
	tables  *tables.BGP
	spec    *v1alpha1.BGP
	speaker *tables.Speaker
	// of is what was last taken in, and problem what was wrong with it.
	of      *v1alpha1.NodeStateSpec
	problem error
	// ranges of services.
	ranges []netip.Prefix
	// peering are the addresses at which pods open sessions.
	peering []netip.Addr
	// peers are the addresses of sessions beside the mesh.
	peers map[netip.Addr]string

	filters map[string]filter
	// rules say what is advertised.
	rules advertise.Rules
	// byBGP are pools whose routes come by BGP.
	byBGP        []netip.Prefix
	clusterPools []netip.Prefix
	meshSessions map[string][]string // node -> names of its sessions
	// behind are peers that are reached by a gateway, by session.
	behind map[string]netip.Prefix
}

// filter is a filter's rules, ready for sessions.
type filter struct{ importing, exporting []peerRule }

func newBGP() bgp {
	return bgp{tables: tables.NewBGP(), meshSessions: map[string][]string{}, behind: map[string]netip.Prefix{}}
}

// BGP is the desired BGP speaker.
func (s *State) BGP() *tables.BGP { return s.bgp.tables }

// setBGP takes what the NodeState says about BGP. Own blocks and the addresses of pods are known already. Most NodeStates have news
// of pods alone: a route reflector must not go through thousands of sessions for each of them.
func (s *State) setBGP(spec *v1alpha1.NodeStateSpec) error {
	b := &s.bgp
	if b.of != nil && reflect.DeepEqual(b.of.BGP, spec.BGP) && reflect.DeepEqual(b.of.Pools, spec.Pools) && reflect.DeepEqual(b.of.Blocks, spec.Blocks) {
		return b.problem
	}
	b.of, b.ranges, b.peering = spec, nil, nil
	b.problem = s.takeBGP(spec)
	return b.problem
}

func (s *State) takeBGP(spec *v1alpha1.NodeStateSpec) error {
	b := &s.bgp
	b.spec = spec.BGP
	s.bridgePools(poolsByBGP(spec.Pools))
	b.setPools(spec.Pools)
	s.bridge.before = slices.DeleteFunc(slices.Clone(b.clusterPools), func(p netip.Prefix) bool { return slices.Contains(b.byBGP, p) })
	for p, d := range s.dests { // BGP may be in charge of other pools now
		s.decideRoute(p, d)
	}
	s.setLearnedPools()
	if spec.BGP == nil {
		b.stop()
		s.setGateways()
		return nil
	}
	peering, err := peeringAddresses(spec.BGP)
	speaker, problem := b.newSpeaker(spec.BGP)
	problem = errors.Join(problem, err)
	b.speaker = speaker
	if speaker != nil {
		b.peering = peering
		if len(speaker.ListenAddresses) > 0 {
			speaker.ListenAddresses = append(speaker.ListenAddresses, peering...)
		}
	}
	b.tables.SetSpeaker(speaker)
	if speaker == nil {
		b.stop()
		s.setGateways()
		return problem
	}
	var errs [4]error
	b.ranges, errs[3] = prefixes(spec.BGP.ServiceRanges)
	b.filters, errs[0] = newFilters(spec.BGP.Filters)
	b.rules.Communities, errs[1] = newCommunities(spec.BGP.Communities)
	b.rules.Named, errs[2] = prefixes(spec.BGP.Announce)
	problem = errors.Join(append(errs[:], problem, s.setSessions(spec.BGP))...)
	s.setExports()
	if problem != nil {
		return fmt.Errorf("bgp: %w", problem)
	}
	return nil
}

// stop leaves nothing to do for a speaker.
func (b *bgp) stop() {
	b.speaker = nil
	b.tables.SetSpeaker(nil)
	for name := range maps.Collect(b.tables.Sessions.All()) {
		b.tables.Sessions.Delete(name)
	}
	for p := range maps.Collect(b.tables.Exports.All()) {
		b.tables.Exports.Delete(p)
	}
	clear(b.meshSessions)
	b.rules.Named, b.peers = nil, nil
}

// poolsByBGP are those of which BGP is in charge.
func poolsByBGP(pools []v1alpha1.Pool) []netip.Prefix {
	var out []netip.Prefix
	for i := range pools {
		if cidr, err := netip.ParsePrefix(pools[i].CIDR); err == nil && pools[i].RoutesByBGP {
			out = append(out, cidr.Masked())
		}
	}
	return out
}

func (b *bgp) setPools(pools []v1alpha1.Pool) {
	b.rules.Private, b.byBGP, b.clusterPools = nil, poolsByBGP(pools), nil
	for i := range pools {
		cidr, err := netip.ParsePrefix(pools[i].CIDR)
		if err != nil {
			continue // told by setPools of the policy
		}
		cidr = cidr.Masked()
		b.clusterPools = append(b.clusterPools, cidr)
		if pools[i].DisableBGPExport {
			b.rules.Private = append(b.rules.Private, cidr)
		}
	}
}

// newSpeaker reads the settings. Nil: there can be no speaker, and the error tells why.
func (b *bgp) newSpeaker(spec *v1alpha1.BGP) (*tables.Speaker, error) {
	id, err := netip.ParseAddr(spec.RouterID)
	if err != nil || !id.Is4() {
		return nil, fmt.Errorf("bgp: routerID: got %q, want an IPv4 address", spec.RouterID)
	}
	if spec.ASNumber < 1 || spec.ASNumber > 1<<32-1 {
		return nil, fmt.Errorf("bgp: asNumber: got %d, want 1 to 4294967295", spec.ASNumber)
	}
	speaker := &tables.Speaker{
		ASNumber: uint32(spec.ASNumber), RouterID: id, Port: uint16(cmp.Or(spec.ListenPort, bgpPort)),
		Pools: b.clusterPools, Private: b.rules.Private,
		MetricIPv4: cmp.Or(uint32(spec.MetricIPv4), learnedMetric), MetricIPv6: cmp.Or(uint32(spec.MetricIPv6), learnedMetric),
	}
	var errs [3]error
	speaker.Addresses, errs[0] = addresses(spec.Addresses)
	speaker.ListenAddresses, errs[1] = addresses(spec.ListenAddresses)
	if spec.ClusterID != "" {
		if speaker.ClusterID, errs[2] = netip.ParseAddr(spec.ClusterID); errs[2] != nil || !speaker.ClusterID.Is4() {
			errs[2] = fmt.Errorf("clusterID: got %q, want the form of an IPv4 address", spec.ClusterID)
			speaker.ClusterID = netip.Addr{}
		}
	}
	return speaker, errors.Join(errs[:]...)
}

func newCommunities(in []v1alpha1.BGPCommunities) ([]advertise.Communities, error) {
	var out []advertise.Communities
	var problem error
	for _, c := range in {
		cidr, err := netip.ParsePrefix(c.CIDR)
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("communities: reading CIDR: %w", err))
			continue
		}
		out = append(out, advertise.Communities{CIDR: cidr.Masked(), Values: c.Values})
	}
	return out, problem
}

// exportOf is how a prefix is advertised.
func (b *bgp) exportOf(p netip.Prefix) tables.BGPExport {
	return tables.BGPExport{Communities: b.rules.CommunitiesOf(p)}
}

// contains tells whether all of inner lies in outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func anyContains(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(outer netip.Prefix) bool { return contains(outer, p) })
}

// setExports makes the exported prefixes what the rules say of all that the node has: its blocks, addresses of pods, and what is announced for
// services.
func (s *State) setExports() {
	b := &s.bgp
	if b.speaker == nil {
		return
	}
	b.rules.Blocks = s.ownBlocks
	want := map[netip.Prefix]struct{}{}
	add := func(p netip.Prefix, held bool) {
		if b.rules.Judge(p, held).Advertised() {
			want[p] = struct{}{}
		}
	}
	for _, p := range slices.Concat(s.ownBlocks, b.rules.Named) {
		add(p, false)
	}
	for p, d := range s.dests {
		if d.here() {
			add(p, true)
		}
	}
	for p := range maps.Collect(b.tables.Exports.All()) {
		if _, ok := want[p]; !ok {
			b.tables.Exports.Delete(p)
		}
	}
	for p := range want {
		b.tables.Exports.Set(p, b.exportOf(p))
	}
}

// exportWorkload follows one pod's address.
func (s *State) exportWorkload(p netip.Prefix, here bool) {
	b := &s.bgp
	if b.speaker == nil {
		return
	}
	b.rules.Blocks = s.ownBlocks
	if b.rules.Judge(p, here).Advertised() {
		b.tables.Exports.Set(p, b.exportOf(p))
	} else {
		b.tables.Exports.Delete(p)
	}
}

// setSessions makes the sessions what the NodeState and the nodes of the mesh say.
func (s *State) setSessions(spec *v1alpha1.BGP) error {
	b := &s.bgp
	var problem error
	want := map[string]bool{}
	b.peers = make(map[netip.Addr]string, len(spec.Sessions))
	take := func(name string, session *tables.BGPSession, err error) {
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("session %s: %w", name, err))
			return
		}
		if session.Address.IsValid() {
			if _, ok := b.peers[session.Address]; ok {
				return // the first in this order counts
			}
			b.peers[session.Address] = name
		}
		want[name] = true
		b.tables.Sessions.Set(name, *session)
	}
	for i := range spec.Sessions {
		session, err := s.session(&spec.Sessions[i])
		take(spec.Sessions[i].Name, session, err)
	}
	for i := range spec.Groups {
		s.eachMember(&spec.Groups[i], take)
	}
	for name := range maps.Collect(b.tables.Sessions.All()) {
		if !want[name] && !strings.HasPrefix(name, meshPrefix) {
			b.tables.Sessions.Delete(name)
		}
	}
	for node := range s.networks {
		s.setMeshSessions(node)
	}
	s.setGateways()
	return problem
}

// eachMember calls take for each session of a group. An error of all of them comes once, under the group's name.
func (s *State) eachMember(group *v1alpha1.BGPGroup, take func(name string, session *tables.BGPSession, err error)) {
	if len(group.Members) == 0 {
		return
	}
	common := group.Session
	for i, member := range group.Members {
		address, as, has := strings.Cut(member, " ")
		in := common
		in.Address, in.Name = address, common.Name+"/"+address
		if has {
			number, err := strconv.ParseUint(as, 10, 32)
			if err != nil {
				take(in.Name, nil, fmt.Errorf("member: got AS number %q, want 1 to 4294967295", as))
				continue
			}
			in.ASNumber = int64(number)
		}
		session, err := s.session(&in)
		if err != nil && i > 0 && len(in.Filters) > 0 {
			continue // what all of them lack was told
		}
		if err == nil {
			session.Group = common.Name
		}
		take(in.Name, session, err)
	}
}

// setGateways makes the routes to peers that are on no network of the node.
func (s *State) setGateways() {
	b := &s.bgp
	behind := map[string]netip.Prefix{}
	for name, session := range b.tables.Sessions.All() {
		if session.Gateway.IsValid() && session.Address.IsValid() && session.Gateway != session.Address {
			behind[name] = netip.PrefixFrom(session.Address, session.Address.BitLen())
		}
	}
	for name, p := range b.behind {
		if behind[name] != p {
			s.claim(p, func(d *destination) { delete(d.gateways, peerClaim+name) })
		}
	}
	for name, p := range behind {
		session, _ := b.tables.Sessions.Get(name)
		s.claim(p, func(d *destination) { d.gateways[peerClaim+name] = session.Gateway })
	}
	b.behind = behind
}

// peerClaim begins the names of claims that are no nodes'.
const peerClaim = "bgp peer "

// peersChanged looks at the sessions again when a pod that peers has other addresses.
func (s *State) peersChanged(id string) {
	b := &s.bgp
	if b.speaker == nil || !slices.ContainsFunc(b.spec.Sessions, func(in v1alpha1.BGPSession) bool { return in.Endpoint == id }) {
		return
	}
	_ = s.setSessions(b.spec) // what is wrong with others was told when they came
}

func (s *State) session(in *v1alpha1.BGPSession) (*tables.BGPSession, error) {
	b := &s.bgp
	out := &tables.BGPSession{
		Port: uint16(cmp.Or(in.Port, bgpPort)), Passive: in.Passive,
		ASNumber: uint32(in.ASNumber), LocalASNumber: uint32(cmp.Or(in.LocalASNumber, int64(b.speaker.ASNumber))),
		Client: in.Client, Password: secretKey(in.Password), TTLSecurity: uint8(in.TTLSecurity),
		KeepaliveSeconds: uint16(in.KeepaliveSeconds), RestartSeconds: uint16(in.RestartSeconds), AllowOwnAS: uint8(in.AllowOwnAS),
		OtherFamily: true,
	}
	var errs [4]error
	switch {
	case in.Endpoint != "":
		s.peerEndpoint(in.Endpoint, in.Address, out)
	default:
		out.Address, errs[0] = netip.ParseAddr(in.Address)
	}
	if in.SourceAddress != "" {
		out.SourceAddress, errs[1] = netip.ParseAddr(in.SourceAddress)
	}
	if in.Gateway != "" {
		out.Gateway, errs[2] = netip.ParseAddr(in.Gateway)
	}
	switch in.NextHop {
	case "Self":
		out.NextHop = tables.NextHopSelf
	case "Keep":
		out.NextHop = tables.NextHopKeep
	}
	var missing []string
	for _, name := range in.Filters {
		f, ok := b.filters[name]
		if !ok {
			missing = append(missing, name)
			continue
		}
		out.Import = append(out.Import, rulesFor(out, f.importing)...)
		out.Export = append(out.Export, rulesFor(out, f.exporting)...)
	}
	if missing != nil {
		// Without the filter the peer could learn what it must not: the session is not made.
		errs[3] = fmt.Errorf("filters: %s are not there or can't be understood", strings.Join(missing, ", "))
	}
	return out, errors.Join(errs[:]...)
}

// peerEndpoint makes a pod of the node the peer. It opens the session, from its own interface.
func (s *State) peerEndpoint(id, address string, out *tables.BGPSession) {
	b := &s.bgp
	out.OtherFamily = false
	v6 := strings.Contains(address, ":") || strings.Contains(b.spec.WorkloadIPv6, ":") && b.spec.WorkloadIPv4 == ""
	source := b.spec.WorkloadIPv4
	if v6 {
		source = b.spec.WorkloadIPv6
	}
	out.SourceAddress, _ = netip.ParseAddr(source) // absent: the kernel's choice
	out.WaitsFor = "pod " + id + " has no address here"
	e := s.endpoints[id]
	if e == nil {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(e.locals), func(a, b localKey) int {
		return cmp.Or(strings.Compare(a.iface, b.iface), strings.Compare(a.uid, b.uid)) // the first interface's before the others'
	}) {
		for _, addr := range e.locals[key].Addresses {
			if addr.Is6() == v6 {
				out.Address, out.WaitsFor = addr, ""
				return
			}
		}
	}
}

func secretKey(k *v1alpha1.SecretKey) *tables.SecretKey {
	if k == nil {
		return nil
	}
	return &tables.SecretKey{Name: k.Name, Key: k.Key}
}

// setMeshSessions makes the sessions with one node of the mesh: one for each family that both nodes have.
func (s *State) setMeshSessions(node string) {
	b := &s.bgp
	names := map[string]bool{}
	network, known := s.networks[node]
	if known && node != s.node && b.speaker != nil && b.spec.Mesh != nil && network.BGP != nil {
		addrs, _ := addresses(network.Addresses) // its problem was noted when it came
		for _, addr := range addrs {
			if !slices.ContainsFunc(b.speaker.Addresses, func(own netip.Addr) bool { return own.Is4() == addr.Is4() }) {
				continue
			}
			name := meshPrefix + node + "/" + addr.String()
			if names[name] || s.peersWith(addr) {
				continue
			}
			names[name] = true
			b.tables.Sessions.Set(name, tables.BGPSession{
				Address: addr, Group: v1alpha1.MeshGroup, Port: uint16(cmp.Or(network.BGP.Port, bgpPort)),
				ASNumber: uint32(network.BGP.ASNumber), LocalASNumber: b.speaker.ASNumber,
				Password: secretKey(b.spec.Mesh.Password), RestartSeconds: uint16(b.spec.Mesh.RestartSeconds),
			})
		}
	}
	for _, name := range b.meshSessions[node] {
		if !names[name] {
			b.tables.Sessions.Delete(name)
		}
	}
	if len(names) == 0 {
		delete(b.meshSessions, node)
		return
	}
	b.meshSessions[node] = slices.Sorted(maps.Keys(names))
}

// peersWith tells whether a session beside the mesh has the address.
func (s *State) peersWith(addr netip.Addr) bool {
	_, ok := s.bgp.peers[addr]
	return ok
}
