package routing

import (
	"net/netip"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// peer is a BGPPeer, read. Its local nodes peer with its remote ones, or with an address, or with pods.
type peer struct {
	name string
	spec *v3.BGPPeerSpec
	// node that peers; empty: those that nodes selects. nil: none, because the selector can't be read.
	node  string
	nodes *selector.Selector
	// remote selects the nodes to peer with, address is the other peer, workloads selects pods.
	remote    *selector.Selector
	address   netip.Addr
	port      int32
	workloads *selector.Selector
	// oneWay: the other nodes do not peer back by this BGPPeer.
	oneWay bool
	// common is what all sessions of the peer have.
	common v1alpha1.BGPSession
	// fromNode: sessions come from the node's address.
	fromNode bool
}

// side is a peer's selector of nodes: of those that peer, or of the others.
type side struct {
	peer   string
	remote bool
}

// met is a node that began or ceased to be on one side.
type met struct {
	side side
	node string
}

// SetPeer takes in a BGPPeer; nil when it is gone. The specification must not be changed afterwards.
func (p *Plan) SetPeer(name string, spec *v3.BGPPeerSpec) {
	before := p.peers[name]
	if before == nil && spec == nil || before != nil && reflect.DeepEqual(before.spec, spec) {
		return
	}
	if before != nil {
		p.touchPeer(before)
		p.removePeer(before)
	}
	if spec == nil {
		return
	}
	next := readPeer(name, spec)
	p.peers[name] = next
	if next.workloads != nil {
		p.withPods++
	}
	switch {
	case next.node != "":
		enter(p.byNode, next.node, next)
	case next.nodes != nil:
		p.sides.SetSelector(side{peer: name}, next.nodes)
	}
	if next.remote != nil {
		p.sides.SetSelector(side{peer: name, remote: true}, next.remote)
	}
	if next.address.IsValid() {
		enter(p.byAddress, next.address, next)
	}
	p.touchPeer(next)
}

func (p *Plan) removePeer(o *peer) {
	delete(p.peers, o.name)
	if o.workloads != nil {
		p.withPods--
	}
	p.sides.DeleteSelector(side{peer: o.name})
	p.sides.DeleteSelector(side{peer: o.name, remote: true})
	exit(p.byNode, o.node, o)
	exit(p.byAddress, o.address, o)
}

func enter[K comparable](index map[K]map[*peer]struct{}, key K, o *peer) {
	if index[key] == nil {
		index[key] = map[*peer]struct{}{}
	}
	index[key][o] = struct{}{}
}

func exit[K comparable](index map[K]map[*peer]struct{}, key K, o *peer) {
	delete(index[key], o)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// touchPeer notes that the sessions of all nodes of a peer may have changed.
func (p *Plan) touchPeer(o *peer) {
	p.locals(o, func(name string) { p.touch(name, staleSessions) })
	p.remotes(o, func(name string) { p.touch(name, staleSessions) })
}

// locals calls yield for each node that peers.
func (p *Plan) locals(o *peer, yield func(name string)) {
	if o.node != "" {
		yield(o.node)
		return
	}
	for name := range p.sides.Items(side{peer: o.name}) {
		yield(name)
	}
}

// remotes calls yield for each node at the other end.
func (p *Plan) remotes(o *peer, yield func(name string)) {
	for name := range p.sides.Items(side{peer: o.name, remote: true}) {
		yield(name)
	}
	for name := range p.at[o.address] {
		yield(name)
	}
}

// readPeer reads a BGPPeer. One that contradicts itself has no sessions; admission refuses it, and its condition says why.
func readPeer(name string, spec *v3.BGPPeerSpec) *peer {
	o := &peer{name: name, spec: spec, node: spec.Node, oneWay: spec.ReversePeering == "Manual", fromNode: spec.SourceAddress != "None"}
	o.common = v1alpha1.BGPSession{
		Password: secretOf(spec.Password), KeepaliveSeconds: seconds(spec.KeepaliveTime), RestartSeconds: seconds(spec.MaxRestartTime),
		Gateway: spec.ReachableBy, Filters: slices.Clone(spec.Filters),
	}
	if spec.LocalASNumber != nil {
		o.common.LocalASNumber = int64(*spec.LocalASNumber)
	}
	if spec.TTLSecurity != nil {
		o.common.TTLSecurity = int32(*spec.TTLSecurity)
	}
	if spec.NumAllowedLocalASNumbers != nil {
		o.common.AllowOwnAS = *spec.NumAllowedLocalASNumbers
	}
	if spec.NextHopMode != nil && *spec.NextHopMode != "Auto" {
		o.common.NextHop = *spec.NextHopMode
	} else if spec.KeepOriginalNextHop {
		o.common.NextHop = "Keep"
	}
	if len(validate.BGPPeer(&v3.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *spec})) > 0 {
		return &peer{name: name, spec: spec}
	}
	// It is valid, so its selectors and its address can be read.
	if spec.Node == "" {
		o.nodes, _ = selector.Parse(spec.NodeSelector)
	}
	switch {
	case spec.PeerIP != "":
		at, _ := validate.PeerAddress(spec.PeerIP)
		o.address, o.port = at.Addr(), int32(at.Port())
		o.common.ASNumber = int64(spec.ASNumber)
	case spec.PeerSelector != "":
		o.remote, _ = selector.Parse(spec.PeerSelector)
	case spec.LocalWorkloadSelector != "":
		o.workloads, _ = selector.Parse(spec.LocalWorkloadSelector)
		o.common.ASNumber = int64(spec.ASNumber)
	}
	return o
}
