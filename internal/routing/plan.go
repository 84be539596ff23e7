// Package routing decides what each node's BGP speaker does: with whom it has sessions, which filters hold there, and which
// prefixes of services it advertises. It knows the users' objects of projectcalico.org (BGPConfiguration, BGPPeer, BGPFilter),
// nodes, services and where their ready endpoints are.
//
// Objects come in one by one, and out comes the plan of each node that they concern. A plan depends on what the cluster is, never
// on the order in which it became known, and a change costs work in proportion to the nodes that it concerns.
package routing

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/labelindex"
	"github.com/manul-net/manul/internal/selector"
)

// Plan holds what is known of the cluster, and what follows from it. It is not safe for concurrent use.
type Plan struct {
	workloads Workloads

	nodes map[string]*node
	peers map[string]*peer
	// filters and configurations that are there, by name.
	filters        map[string]*filter
	configurations map[string]*configuration
	services       map[ServiceName]*service

	// sides finds the nodes that peers select.
	sides *labelindex.Index[string, side]
	// byNode are the peers that name their node, byAddress those that name a peer's address.
	byNode    map[string]map[*peer]struct{}
	byAddress map[netip.Addr]map[*peer]struct{}
	// at are the nodes with an address.
	at map[netip.Addr]map[string]struct{}
	// everywhere are the services at which every node has to look, local those of which a node has a ready endpoint and that go by
	// that. heldLocally counts the services that have an address which only some nodes advertise; placed counts those that
	// say which.
	everywhere  map[*service]struct{}
	local       map[string]map[*service]struct{}
	heldLocally map[netip.Addr]int
	placed      int
	// withPods counts the peers that select pods.
	withPods int

	// met are the sides of peers that began or ceased to select a node.
	met map[met]struct{}
	// stale says which parts of a node's plan may have changed.
	stale map[string]parts
	// changed are the nodes whose plan has changed.
	changed map[string]struct{}
}

// parts of a node's plan.
type parts uint8

const (
	staleSessions parts = 1 << iota
	staleServices
	staleSettings
)

// Workloads calls yield for the pods on a node, each with its ID "namespace/name" and its labels as selectors see them, until it
// returns false.
type Workloads func(node string, yield func(id string, labels selector.Labels) bool)

// New returns a plan for a cluster without nodes. workloads is asked when a peer selects pods.
func New(workloads Workloads) *Plan {
	p := &Plan{
		workloads:      workloads,
		nodes:          map[string]*node{},
		peers:          map[string]*peer{},
		filters:        map[string]*filter{},
		configurations: map[string]*configuration{},
		services:       map[ServiceName]*service{},
		byNode:         map[string]map[*peer]struct{}{},
		byAddress:      map[netip.Addr]map[*peer]struct{}{},
		at:             map[netip.Addr]map[string]struct{}{},
		everywhere:     map[*service]struct{}{},
		local:          map[string]map[*service]struct{}{},
		heldLocally:    map[netip.Addr]int{},
		met:            map[met]struct{}{},
		stale:          map[string]parts{},
		changed:        map[string]struct{}{},
	}
	p.sides = labelindex.New(func(s side, node string, _ bool) { p.met[met{s, node}] = struct{}{} })
	return p
}

// Changed returns the nodes that have another plan than at the last call, in order. Those that are gone are not among them. From then
// until something else is told, BGP and Member may be asked by several goroutines at a time.
func (p *Plan) Changed() []string {
	p.update()
	names := slices.Sorted(maps.Keys(p.changed))
	clear(p.changed)
	return names
}

// BGP is what a node's speaker does; nil when there is no such node. The caller must not change it.
func (p *Plan) BGP(name string) *v1alpha1.BGP {
	p.update()
	if n := p.nodes[name]; n != nil {
		return n.plan
	}
	return nil
}

// Member is the node as others in the mesh see it; nil when it is not in the mesh.
func (p *Plan) Member(name string) *v1alpha1.MeshMember {
	p.update()
	n := p.nodes[name]
	if n == nil || n.plan == nil || n.plan.Mesh == nil {
		return nil
	}
	return &v1alpha1.MeshMember{ASNumber: n.plan.ASNumber, Port: n.plan.ListenPort}
}

// touch notes that parts of a node's plan may have changed.
func (p *Plan) touch(name string, what parts) { p.stale[name] |= what }

// touchNode is touch for a node that may not be there.
func (p *Plan) touchNode(name string, what parts) {
	if p.nodes[name] != nil {
		p.touch(name, what)
	}
}

// touchAll notes that parts of every node's plan may have changed.
func (p *Plan) touchAll(what parts) {
	for name := range p.nodes {
		p.touch(name, what)
	}
}

// update brings the plans up to date. A session has two ends: first every node's sessions are known, then which end opens them.
func (p *Plan) update() {
	if len(p.met) == 0 && len(p.stale) == 0 {
		return // and nothing is written: several may ask at a time
	}
	for m := range p.met {
		p.touchEnds(m)
	}
	clear(p.met)
	if len(p.stale) == 0 {
		return
	}
	for name, what := range p.stale {
		n := p.nodes[name]
		if n == nil {
			continue
		}
		if what&staleSessions != 0 {
			p.findSessions(n)
		}
		if what&staleServices != 0 {
			n.announce = p.announced(n)
		}
	}
	for name := range p.stale {
		n := p.nodes[name]
		if n == nil {
			continue
		}
		if plan := p.planOf(n); !reflect.DeepEqual(plan, n.plan) {
			n.plan = plan
			p.changed[name] = struct{}{}
		}
	}
	clear(p.stale)
}

// planOf puts a node's plan together.
func (p *Plan) planOf(n *node) *v1alpha1.BGP {
	s := p.settingsOf(n.Name)
	out := &v1alpha1.BGP{
		ASNumber:          p.asNumber(n, s),
		RouterID:          n.routerID(),
		ListenPort:        s.port(),
		ClusterID:         n.clusterID,
		Announce:          n.announce,
		ServiceRanges:     s.serviceRanges(),
		Communities:       s.advertised(),
		IgnoredInterfaces: s.ignored,
		MetricIPv4:        s.metric4,
		MetricIPv6:        s.metric6,
		WorkloadIPv4:      s.workload4,
		WorkloadIPv6:      s.workload6,
	}
	for _, addr := range n.Addresses {
		out.Addresses = append(out.Addresses, addr.String())
	}
	if s.bindsNode() {
		out.ListenAddresses = out.Addresses
	}
	// A route reflector is in no mesh: it peers with those whom BGPPeers give it.
	if s.hasMesh() && n.clusterID == "" && len(n.Addresses) > 0 {
		out.Mesh = &v1alpha1.BGPMesh{Password: s.meshPassword, RestartSeconds: s.meshRestart}
	}
	sessions := p.sessionsOf(n)
	out.Filters = p.filtersOf(sessions)
	out.Sessions, out.Groups = grouped(sessions)
	return out
}
