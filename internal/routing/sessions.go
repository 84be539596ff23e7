package routing

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/selector"
)

// end is a node's end of a session, before it is settled which end opens it.
type end struct {
	session v1alpha1.BGPSession
	peer    *peer
	// own and other address; own is not valid where the kernel chooses.
	own, other netip.Addr
	// reflector is the cluster of the other node (RFC 4456); empty for a peer that is no node.
	reflector string
}

// findSessions finds the node's ends of sessions, by all peers on one side of which it is.
func (p *Plan) findSessions(n *node) {
	links := map[string]struct{}{}
	for name := range n.links {
		if other := p.nodes[name]; other != nil && other.peersWith(n.Name) {
			links[name] = struct{}{}
		} else if other != nil {
			delete(other.links, n.Name)
		}
	}
	n.links = links
	var ends []end
	local := map[*peer]struct{}{}
	for o := range p.byNode[n.Name] {
		local[o] = struct{}{}
	}
	remote := map[*peer]struct{}{}
	for s := range p.sides.Selectors(n.Name) {
		if o := p.peers[s.peer]; o != nil && s.remote {
			remote[o] = struct{}{}
		} else if o != nil {
			local[o] = struct{}{}
		}
	}
	for _, addr := range n.Addresses {
		for o := range p.byAddress[addr] {
			remote[o] = struct{}{}
		}
	}
	for o := range local {
		ends = p.outward(ends, n, o)
	}
	for o := range remote {
		ends = p.back(ends, n, o)
	}
	slices.SortFunc(ends, func(a, b end) int { return strings.Compare(a.session.Name, b.session.Name) })
	// Both sides of a peer may hold of two nodes; and of several peers with one address the first counts.
	ends = slices.CompactFunc(ends, func(a, b end) bool { return a.session.Name == b.session.Name })
	seen := map[netip.Addr]struct{}{}
	n.ends = slices.DeleteFunc(ends, func(e end) bool {
		if !e.other.IsValid() {
			return false
		}
		_, before := seen[e.other]
		seen[e.other] = struct{}{}
		return before
	})
	n.with, n.to = make(map[string]struct{}, len(n.ends)), make(map[netip.Addr]struct{}, len(n.ends))
	for i := range n.ends {
		e := &n.ends[i]
		n.with[e.session.Node], n.to[e.other] = struct{}{}, struct{}{}
		if other := p.nodes[e.session.Node]; other != nil {
			n.links[other.Name] = struct{}{}
			other.links[n.Name] = struct{}{}
		}
	}
}

// outward adds the node's ends of a peer's sessions with the other side.
func (p *Plan) outward(ends []end, n *node, o *peer) []end {
	switch {
	case o.workloads != nil:
		return p.toWorkloads(ends, n, o)
	case o.address.IsValid():
		if slices.Contains(n.Addresses, o.address) {
			return ends // the node itself
		}
		e := o.end(n, o.address)
		e.session.Port = port(o.port)
		for name := range p.at[o.address] {
			if other := p.nodes[name]; e.session.Node == "" || name < e.session.Node {
				e.session.Node, e.reflector = name, other.clusterID
			}
		}
		return append(ends, e)
	}
	p.remotes(o, func(name string) { ends = p.between(ends, n, p.nodes[name], o, false) })
	return ends
}

// back adds the ends of a node with which others peer.
func (p *Plan) back(ends []end, n *node, o *peer) []end {
	if o.oneWay || o.address.IsValid() && !p.isNode(n, o) {
		return ends
	}
	p.locals(o, func(name string) { ends = p.between(ends, n, p.nodes[name], o, true) })
	return ends
}

// isNode tells whether a node is what a peer's address, port and AS number say.
func (p *Plan) isNode(n *node, o *peer) bool {
	s := p.settingsOf(n.Name)
	return (o.port == 0 || o.port == s.port()) && o.common.ASNumber == p.asNumber(n, s)
}

// between adds the node's ends of the sessions with another node: one for each family that both have.
func (p *Plan) between(ends []end, n, other *node, o *peer, back bool) []end {
	if other == nil || other == n {
		return ends
	}
	s := p.settingsOf(other.Name)
	for _, addr := range other.Addresses {
		if o.address.IsValid() && o.address.Is4() != addr.Is4() || !n.address(addr.Is4()).IsValid() {
			continue
		}
		e := o.end(n, addr)
		e.session.Node, e.reflector = other.Name, other.clusterID
		e.session.Port = port(s.port())
		e.session.ASNumber = p.asNumber(other, s)
		if back {
			// What the one side uses as its own AS number is the other's peer.
			e.session.ASNumber = cmp.Or(o.common.LocalASNumber, e.session.ASNumber)
			e.session.LocalASNumber = 0
			e.session.Gateway = ""
		}
		ends = append(ends, e)
	}
	return ends
}

// port of a session, 0 for that of BGP.
func port(number int32) int32 {
	if number == DefaultPort {
		return 0
	}
	return number
}

// end is the node's end of a session with an address.
func (o *peer) end(n *node, addr netip.Addr) end {
	e := end{session: o.common, peer: o, own: n.address(addr.Is4()), other: addr}
	e.session.Name = o.name + "/" + addr.String()
	e.session.Address = addr.String()
	if o.fromNode && e.own.IsValid() {
		e.session.SourceAddress = e.own.String()
	}
	return e
}

// toWorkloads adds a session with each pod of the node that the peer selects. Pods open them.
func (p *Plan) toWorkloads(ends []end, n *node, o *peer) []end {
	p.workloads(n.Name, func(id string, labels selector.Labels) bool {
		if !o.workloads.Match(labels) {
			return true
		}
		e := end{session: o.common, peer: o}
		e.session.Name = o.name + "/" + id
		e.session.Endpoint = id
		e.session.Passive = true
		ends = append(ends, e)
		return true
	})
	return ends
}

// PodsChanged notes that the pods of a node, or their labels, changed.
func (p *Plan) PodsChanged(node string) {
	if p.withPods > 0 && p.nodes[node] != nil {
		p.touch(node, staleSessions)
	}
}

// peersWith tells whether the node has a session with another.
func (n *node) peersWith(other string) bool {
	_, ok := n.with[other]
	return ok
}

// sessionsOf are a node's sessions. Where both ends name each other the one with the lower address opens the session, so that
// there are not two of them; a node on which only one end is configured opens it itself.
func (p *Plan) sessionsOf(n *node) []v1alpha1.BGPSession {
	var out []v1alpha1.BGPSession
	as := p.asNumber(n, p.settingsOf(n.Name))
	for i := range n.ends {
		e := &n.ends[i]
		s := e.session
		if other := p.nodes[s.Node]; other != nil && e.own.Compare(e.other) > 0 && other.hasEnd(e.own) {
			s.Passive = true
		}
		internal := s.ASNumber == cmp.Or(s.LocalASNumber, as)
		s.Client = internal && n.clusterID != "" && e.reflector != n.clusterID
		out = append(out, s)
	}
	return out
}

// hasEnd tells whether the node has a session with an address.
func (n *node) hasEnd(addr netip.Addr) bool {
	_, ok := n.to[addr]
	return ok
}
