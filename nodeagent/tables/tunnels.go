package tables

import (
	"net/netip"

	"github.com/manul-net/manul/nodeagent/delta"
)

// TunnelKind is a kind of encapsulation. There is at most one device of each.
type TunnelKind uint8

// The kinds of tunnels. VXLANv6 carries IPv6 packets between IPv6 addresses of nodes, the others IPv4 between IPv4.
const (
	IPIP TunnelKind = iota + 1
	VXLAN
	VXLANv6
)

// TunnelKinds are all kinds, in order.
func TunnelKinds() []TunnelKind { return []TunnelKind{IPIP, VXLAN, VXLANv6} }

// String is the kind's name in rendered state.
func (k TunnelKind) String() string {
	switch k {
	case IPIP:
		return "IPIP"
	case VXLAN:
		return "VXLAN"
	case VXLANv6:
		return "VXLANv6"
	}
	return "no kind of tunnel"
}

// Device is the name of the kind's device. The names are the agent's: what bears one is taken for its own.
func (k TunnelKind) Device() string {
	switch k {
	case IPIP:
		return "ipip.manul"
	case VXLAN:
		return "vxlan.manul"
	case VXLANv6:
		return "vxlan-v6.manul"
	}
	return ""
}

// Overhead is what the encapsulation adds to a packet, bytes: an IP header, and for VXLAN UDP, VXLAN and Ethernet headers.
func (k TunnelKind) Overhead() int {
	const ipv4, ipv6, udp, vxlan, ethernet = 20, 40, 8, 8, 14
	switch k {
	case IPIP:
		return ipv4
	case VXLAN:
		return ipv4 + udp + vxlan + ethernet
	case VXLANv6:
		return ipv6 + udp + vxlan + ethernet
	}
	return 0
}

// Is4 tells whether the tunnel carries IPv4 packets, between IPv4 addresses.
func (k TunnelKind) Is4() bool { return k != VXLANv6 }

// MAC is an Ethernet address.
type MAC [6]byte

// Tunnels are the desired ends of tunnels of a node.
type Tunnels struct {
	Devices *delta.Table[TunnelKind, Tunnel]
	// Peers are the other ends of VXLAN tunnels. IPIP needs to know of none: the next hop of a route is the other end.
	Peers *delta.Table[TunnelPeer, Neighbor]
}

// Tunnel is a device. Exactly the addresses of its peers and its own one are there.
type Tunnel struct {
	// Local is the node's address, from which encapsulated packets are sent.
	Local netip.Addr
	// Address of the device itself, which the node takes for what it sends through the tunnel. Not valid: none yet.
	Address netip.Addr
	// MTU, bytes. 0: that of the node's interface less the encapsulation.
	MTU int
	// MTUInterfaces is a regular expression (RE2) of the interfaces whose least MTU counts. Empty: the one that bears Local.
	MTUInterfaces string
	// MAC, VNI (24 bits) and UDP port of a VXLAN device.
	MAC  MAC
	VNI  uint32
	Port uint16
}

// TunnelPeer names the other end of a VXLAN tunnel: the address of its node.
type TunnelPeer struct {
	Kind TunnelKind
	Node netip.Addr
}

// Neighbor is how the peer's device is reached inside the tunnel.
type Neighbor struct {
	// NextHop of the routes to what lies behind the peer.
	NextHop netip.Addr
	MAC     MAC
}

// NewTunnels makes an empty desired state.
func NewTunnels() *Tunnels {
	return &Tunnels{
		Devices: delta.NewTable[TunnelKind](func(a, b Tunnel) bool { return a == b }),
		Peers:   delta.NewTable[TunnelPeer](func(a, b Neighbor) bool { return a == b }),
	}
}

// HasDirty tells whether anything changed since the last Clean.
func (t *Tunnels) HasDirty() bool { return t.Devices.HasDirty() || t.Peers.HasDirty() }

// Clean forgets what changed.
func (t *Tunnels) Clean() {
	t.Devices.Clean()
	t.Peers.Clean()
}
