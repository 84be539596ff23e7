package oracle

import (
	"net/netip"
	"slices"
)

// Network is what packets travel: interfaces of nodes and pods, and how services are translated. Users' objects do not
// tell of it, and no policy changes it.
type Network struct {
	Interfaces   []Interface
	Pods         []Pod
	Translations []Translation
	// MasqueradePort is the source port that masquerading chooses. 0: it leaves the port as it is.
	MasqueradePort int
}

// Interface of a node, that is no pod's.
type Interface struct {
	Node, Name string
	// Addresses of the node on it, one of each family.
	Addresses []netip.Addr
	// Reaches are the networks to which it leads.
	Reaches []netip.Prefix
}

// Pod is an endpoint, where it is.
type Pod struct {
	// ID is "namespace/name".
	ID, Node  string
	Addresses []netip.Addr
}

// Translation is what kube-proxy does on every node to packets for a service: the destination becomes an endpoint.
type Translation struct {
	Address  netip.Addr // a cluster IP, or the address of a node for a node port
	Protocol int
	Port     int

	Endpoint     netip.Addr
	EndpointPort int

	// Masquerade: the packet takes the address of the node by which it leaves.
	Masquerade bool
}

// Place is where packets start or end: a pod, a node itself, or, with an interface, what is outside, as seen by the node's
// interface by which the packet comes in or goes out.
type Place struct {
	Pod       string // ID
	Node      string
	Interface string
}

// String names the place as a user would.
func (p Place) String() string {
	switch {
	case p.Pod != "":
		return "pod " + p.Pod
	case p.Interface != "":
		return "outside, behind " + p.Interface + " of node " + p.Node
	}
	return "node " + p.Node
}

// link is an interface of a node: one of its own by name, or that of a pod.
type link struct {
	name string // of the node's own interfaces
	pod  string // ID
}

// String names the link in steps.
func (l link) String() string {
	if l.pod != "" {
		return "interface of pod " + l.pod
	}
	return "interface " + l.name
}

// nodeOf is the node that has an address itself.
func (n *Network) nodeOf(addr netip.Addr) string {
	for i := range n.Interfaces {
		if slices.Contains(n.Interfaces[i].Addresses, addr) {
			return n.Interfaces[i].Node
		}
	}
	return ""
}

func (n *Network) podWith(addr netip.Addr) *Pod {
	for i := range n.Pods {
		if slices.Contains(n.Pods[i].Addresses, addr) {
			return &n.Pods[i]
		}
	}
	return nil
}

// out is the link by which a node sends to an address, none if it is its own, and the node at the other end, if there is one.
func (n *Network) out(node string, to netip.Addr) (out link, next string, ok bool) {
	if n.nodeOf(to) == node {
		return link{}, "", true
	}
	gateway := to
	if pod := n.podWith(to); pod != nil {
		if pod.Node == node {
			return link{pod: pod.ID}, "", true
		}
		gateway = n.mainAddress(pod.Node, to.Is4())
	}
	for i := range n.Interfaces {
		l := &n.Interfaces[i]
		if l.Node == node && slices.ContainsFunc(l.Reaches, func(p netip.Prefix) bool { return p.Contains(gateway) }) {
			return link{name: l.Name}, n.nodeOf(gateway), true
		}
	}
	return link{}, "", false
}

// mainAddress is the address of a node's first interface, by which its pods are reached.
func (n *Network) mainAddress(node string, v4 bool) netip.Addr {
	for i := range n.Interfaces {
		if n.Interfaces[i].Node == node {
			return n.Interfaces[i].address(v4)
		}
	}
	return netip.Addr{}
}

func (l *Interface) address(v4 bool) netip.Addr {
	for _, a := range l.Addresses {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// named is an interface of a node by its name.
func (n *Network) named(node, name string) *Interface {
	for i := range n.Interfaces {
		if n.Interfaces[i].Node == node && n.Interfaces[i].Name == name {
			return &n.Interfaces[i]
		}
	}
	return nil
}

// entry is the interface of a node that is in one network with another node's interface.
func (n *Network) entry(node string, from *Interface) string {
	for i := range n.Interfaces {
		l := &n.Interfaces[i]
		if l.Node == node && slices.ContainsFunc(from.Addresses, func(a netip.Addr) bool {
			return slices.ContainsFunc(l.Reaches, func(p netip.Prefix) bool { return p.Contains(a) })
		}) {
			return l.Name
		}
	}
	return ""
}

// translated is what becomes of a packet where services are translated.
func (n *Network) translated(p Packet) (Packet, *Translation) {
	for i := range n.Translations {
		t := &n.Translations[i]
		if t.Address == p.Destination && t.Protocol == p.Protocol && t.Port == p.DestinationPort {
			p.Destination, p.DestinationPort = t.Endpoint, t.EndpointPort
			return p, t
		}
	}
	return p, nil
}
