package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeNetwork is what the other nodes need to send packets to one node's pods. It bears that node's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=nodenetworks
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Blocks",type=string,JSONPath=`.spec.blocks`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodeNetworkSpec `json:"spec,omitempty"`
}

// NodeNetworkList is a list of NodeNetwork.
//
// +kubebuilder:object:root=true
type NodeNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeNetwork `json:"items"`
}

// NodeNetworkSpec gives a node's addresses and the blocks that lie behind them.
type NodeNetworkSpec struct {
	// Addresses of the node on the underlying network, at most one of each family, IPv4 first, without prefix length.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// Blocks are the CIDRs leased to the node, in order.
	// +listType=set
	// +optional
	Blocks []string `json:"blocks,omitempty"`

	// Subnets of the addresses, as far as they are known, in the same order: "192.0.2.0/24". A node whose subnet is not known is
	// on none with any other.
	// +listType=atomic
	// +optional
	Subnets []string `json:"subnets,omitempty"`

	// Borrowed are single addresses that lie behind the node although their block is leased to another, in order.
	// +listType=set
	// +optional
	Borrowed []string `json:"borrowed,omitempty"`

	// Single are other single addresses that lie behind the node, in order: floating ones, which the node translates to those of
	// its pods, and those that pods have without address management.
	// +listType=set
	// +optional
	Single []string `json:"single,omitempty"`

	// Tunnels are the node's ends of tunnels, in order of their kind.
	// +listType=map
	// +listMapKey=kind
	// +optional
	Tunnels []TunnelEnd `json:"tunnels,omitempty"`

	// BGP is what other nodes must know to peer with the node in the mesh. Absent: it is not in the mesh.
	// +optional
	BGP *MeshMember `json:"bgp,omitempty"`
}

// TunnelEnd is one node's end of a tunnel.
type TunnelEnd struct {
	Kind TunnelKind `json:"kind"`
	// Address of the tunnel's device, from a pool.
	// +optional
	Address string `json:"address,omitempty"`
	// MAC address of a VXLAN device. It follows from the node's name: see docs/design/tunnels.md.
	// +optional
	MAC string `json:"mac,omitempty"`
}

// MeshMember is a node as the others in the mesh see it.
type MeshMember struct {
	// ASNumber of the node.
	ASNumber int64 `json:"asNumber"`
	// Port on which the node takes sessions, TCP.
	Port int32 `json:"port"`
}
