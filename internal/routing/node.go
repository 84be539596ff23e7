package routing

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// LabelExclude on a node keeps it from advertising services (k8s.io/api, LabelNodeExcludeBalancers).
const LabelExclude = "node.kubernetes.io/exclude-from-external-load-balancers"

// Node is a node as far as BGP goes.
type Node struct {
	Name   string
	Labels map[string]string
	// Addresses of the node, at most one of each family, IPv4 first.
	Addresses []netip.Addr
	// ASNumber and ClusterID are the annotations projectcalico.org/ASNumber and projectcalico.org/RouteReflectorClusterID. What
	// can't be read counts as absent.
	ASNumber, ClusterID string
}

// node is a node and its plan.
type node struct {
	Node
	// as is the node's own AS number, 0 for that of the configuration; clusterID makes it a route reflector.
	as        int64
	clusterID string

	// ends are the node's sessions before it is settled who opens them, in order, and links the nodes at their other end.
	ends  []end
	links map[string]struct{}
	// with are the nodes, and to the addresses, at the other ends.
	with map[string]struct{}
	to   map[netip.Addr]struct{}
	// announce are the prefixes of services.
	announce []string
	plan     *v1alpha1.BGP
}

// ParseASNumber reads an AS number: "64512", or "1.10" for 65546 (RFC 5396).
func ParseASNumber(text string) (int64, bool) {
	high, low, dotted := strings.Cut(text, ".")
	if !dotted {
		number, err := strconv.ParseUint(text, 10, 32)
		return int64(number), err == nil && number > 0
	}
	a, errA := strconv.ParseUint(high, 10, 16)
	b, errB := strconv.ParseUint(low, 10, 16)
	number := int64(a<<16 | b)
	return number, errA == nil && errB == nil && number > 0
}

// ParseClusterID reads the cluster of a route reflector: a number of four bytes in the form of an IPv4 address (RFC 4456).
func ParseClusterID(text string) (string, bool) {
	id, err := netip.ParseAddr(text)
	if err != nil || !id.Is4() {
		return "", false
	}
	return id.String(), true
}

// SetNode takes in a node as it is now. Its labels and addresses must not be changed afterwards.
func (p *Plan) SetNode(o Node) {
	n := p.nodes[o.Name]
	if n == nil {
		n = &node{Node: Node{Name: o.Name}, links: map[string]struct{}{}}
		p.nodes[o.Name] = n
		p.touch(o.Name, staleSessions|staleServices|staleSettings)
		p.touchNeighbours(n)
	}
	if excluded(n.Labels) != excluded(o.Labels) || p.placed > 0 && !maps.Equal(n.Labels, o.Labels) {
		p.touch(o.Name, staleServices)
	}
	if !slices.Equal(n.Addresses, o.Addresses) || n.ASNumber != o.ASNumber || n.ClusterID != o.ClusterID {
		p.touchNeighbours(n)
		p.moveNode(n, o.Addresses)
		// What can't be read is as if it were absent: 0, and the settings decide.
		if n.as = 0; o.ASNumber != "" {
			if as, ok := ParseASNumber(o.ASNumber); ok {
				n.as = as
			}
		}
		n.clusterID, _ = ParseClusterID(o.ClusterID)
		n.Node = o
		p.touch(o.Name, staleSessions|staleSettings)
		p.touchNeighbours(n)
	}
	n.Node = o
	p.sides.SetItem(o.Name, o.Labels)
}

// excluded tells whether a node advertises no services.
func excluded(labels map[string]string) bool {
	_, ok := labels[LabelExclude]
	return ok
}

// DeleteNode takes note that a node is gone.
func (p *Plan) DeleteNode(name string) {
	n := p.nodes[name]
	if n == nil {
		return
	}
	p.touchNeighbours(n)
	p.moveNode(n, nil)
	p.sides.DeleteItem(name)
	delete(p.nodes, name)
	p.touch(name, staleSessions)
}

// moveNode has the node found by other addresses.
func (p *Plan) moveNode(n *node, to []netip.Addr) {
	for _, addr := range n.Addresses {
		delete(p.at[addr], n.Name)
		if len(p.at[addr]) == 0 {
			delete(p.at, addr)
		}
	}
	for _, addr := range to {
		if p.at[addr] == nil {
			p.at[addr] = map[string]struct{}{}
		}
		p.at[addr][n.Name] = struct{}{}
	}
	n.Addresses = to
}

// touchNeighbours notes that the sessions of those nodes may have changed that peer with a node, or would if it were there.
func (p *Plan) touchNeighbours(n *node) {
	for name := range n.links {
		p.touch(name, staleSessions)
	}
	for s := range p.sides.Selectors(n.Name) {
		p.touchEnds(met{s, n.Name})
	}
	for peer := range p.byNode[n.Name] {
		p.touchEnds(met{side{peer: peer.name}, n.Name})
	}
	for _, addr := range n.Addresses {
		for peer := range p.byAddress[addr] {
			p.touchEnds(met{side{peer: peer.name, remote: true}, n.Name})
		}
	}
}

// touchEnds notes what follows when a node begins or ceases to be at one side of a peer, or becomes another: its own sessions may
// have changed, and those of the nodes at the other side.
func (p *Plan) touchEnds(m met) {
	p.touch(m.node, staleSessions)
	peer := p.peers[m.side.peer]
	if peer == nil {
		return
	}
	if m.side.remote {
		p.locals(peer, func(name string) { p.touch(name, staleSessions) })
	} else {
		p.remotes(peer, func(name string) { p.touch(name, staleSessions) })
	}
}

// address is that of the node in a family; not valid: it has none.
func (n *node) address(is4 bool) netip.Addr {
	for _, addr := range n.Addresses {
		if addr.Is4() == is4 {
			return addr
		}
	}
	return netip.Addr{}
}

// routerID is the node's IPv4 address. A node without one gets an identifier that follows from its name: it has to be unique
// in the AS and not 0 (RFC 6286), no more.
func (n *node) routerID() string {
	if addr := n.address(true); addr.IsValid() {
		return addr.String()
	}
	sum := sha256.Sum256([]byte(n.Name))
	sum[0] |= 1
	return netip.AddrFrom4([4]byte(sum[:4])).String()
}

// asNumber is the node's: its annotation comes before the configuration.
func (p *Plan) asNumber(n *node, s *settings) int64 {
	return cmp.Or(n.as, s.as, DefaultASNumber)
}
