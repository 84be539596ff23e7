package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeState is what one node has to put into effect, and what it answers. It bears the node's name and holds only
// what is local to the node: never the members of a set, never another node's endpoints.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=nodestates
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.summary.endpoints`
// +kubebuilder:printcolumn:name="Policies",type=integer,JSONPath=`.status.summary.policies`
// +kubebuilder:printcolumn:name="Sets",type=integer,JSONPath=`.status.summary.sets`
// +kubebuilder:printcolumn:name="Routes",type=integer,JSONPath=`.status.summary.routes`
// +kubebuilder:printcolumn:name="Dataplane",type=string,JSONPath=`.status.dataplane`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeStateSpec   `json:"spec,omitempty"`
	Status NodeStateStatus `json:"status,omitempty"`
}

// NodeStateList is a list of NodeState.
//
// +kubebuilder:object:root=true
type NodeStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeState `json:"items"`
}

// NodeStateSpec is the operator's part: what the node has to put into effect.
type NodeStateSpec struct {
	// Endpoints are the pods of the node that have a network of their own, in order of their ID.
	// +listType=map
	// +listMapKey=id
	// +optional
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// HostEndpoints are interfaces of the node itself that policies select, in order of their name.
	// +listType=map
	// +listMapKey=name
	// +optional
	HostEndpoints []HostEndpoint `json:"hostEndpoints,omitempty"`

	// Blocks are the address blocks leased to the node, in order of their CIDR.
	// +listType=map
	// +listMapKey=cidr
	// +optional
	Blocks []BlockLease `json:"blocks,omitempty"`

	// Borrowed are single addresses of blocks that are leased to other nodes, which this node may give to its pods, in order.
	// +listType=map
	// +listMapKey=address
	// +optional
	Borrowed []BorrowedAddress `json:"borrowed,omitempty"`

	// Pools are all address pools of the cluster, in order of their CIDR: the node needs them to tell traffic that
	// leaves the pods' network from traffic that stays.
	// +listType=map
	// +listMapKey=cidr
	// +optional
	Pools []Pool `json:"pools,omitempty"`

	// PodCIDRs are those that Kubernetes allotted to the node (spec.podCIDRs of Node), in its order. IPAM plugins of a network
	// configuration may give addresses of them.
	// +listType=atomic
	// +optional
	PodCIDRs []string `json:"podCIDRs,omitempty"`

	// Tunnels that the node needs an end of, in order of their kind.
	// +listType=map
	// +listMapKey=kind
	// +optional
	Tunnels []Tunnel `json:"tunnels,omitempty"`

	// BGP is what the node's BGP speaker does. Absent: there is none.
	// +optional
	BGP *BGP `json:"bgp,omitempty"`

	// Inquiry asks for a Report. Absent: nobody does.
	// +optional
	Inquiry *Inquiry `json:"inquiry,omitempty"`

	// Settings of the agent.
	// +optional
	Settings AgentSettings `json:"settings,omitempty"`
}

// Endpoint is one pod of the node and the policies that apply to it.
type Endpoint struct {
	// ID is the pod's namespace and name: "namespace/name".
	ID string `json:"id"`

	// UID of the pod. A pod that is deleted and created again under the same name is a new endpoint.
	UID types.UID `json:"uid"`

	// Identity is the class of endpoints that no selector in use can tell apart to which this one belongs.
	// +optional
	Identity string `json:"identity,omitempty"`

	// Ingress lists, tier by tier in order of evaluation, the policies that decide on traffic to the endpoint.
	// A tier without a policy for this endpoint and direction is absent. No tier at all: no restriction.
	// +listType=atomic
	// +optional
	Ingress []TierPolicies `json:"ingress,omitempty"`

	// Egress lists, tier by tier in order of evaluation, the policies that decide on traffic from the endpoint.
	// +listType=atomic
	// +optional
	Egress []TierPolicies `json:"egress,omitempty"`

	// Ports are the named ports of the pod's containers, in order of name, protocol and number.
	// +listType=atomic
	// +optional
	Ports []NamedPort `json:"ports,omitempty"`

	// SourcePrefixes are CIDRs from which the pod may send beside its own addresses.
	// +listType=atomic
	// +optional
	SourcePrefixes []string `json:"sourcePrefixes,omitempty"`

	// Floating are addresses by which the endpoint is reached beside its own, in order.
	// +listType=map
	// +listMapKey=address
	// +optional
	Floating []FloatingAddress `json:"floating,omitempty"`

	// HardwareAddress is the MAC address that the pod's interface gets. Absent: one that follows from its attachment.
	// +optional
	HardwareAddress string `json:"hardwareAddress,omitempty"`

	// Bandwidth limits what goes to the pod and comes from it. Absent: nothing does.
	// +optional
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`

	// Packets limits the packets and connections to the pod and from it. Absent: nothing does.
	// +optional
	Packets *PacketLimits `json:"packets,omitempty"`

	// Addresses says which addresses the endpoint may get.
	// +optional
	Addresses AddressRequest `json:"addresses,omitempty"`
}

// Bandwidth limits the traffic of a pod, seen from the pod.
type Bandwidth struct {
	// Ingress limits what goes to the pod.
	// +optional
	Ingress *BandwidthLimit `json:"ingress,omitempty"`
	// Egress limits what the pod sends.
	// +optional
	Egress *BandwidthLimit `json:"egress,omitempty"`
}

// BandwidthLimit is a limit in one direction.
type BandwidthLimit struct {
	// BitsPerSecond that pass in the long run.
	BitsPerSecond int64 `json:"bitsPerSecond"`
	// BurstBits that pass at once after a pause.
	BurstBits int64 `json:"burstBits"`
	// PeakBitsPerSecond at which even a burst passes. 0: as fast as it comes.
	// +optional
	PeakBitsPerSecond int64 `json:"peakBitsPerSecond,omitempty"`
	// MinBurstBytes that pass at once whatever the peak. 0: a full packet.
	// +optional
	MinBurstBytes int64 `json:"minBurstBytes,omitempty"`
}

// PacketLimits limits the packets and connections of a pod, seen from the pod.
type PacketLimits struct {
	// Ingress limits what comes from others than the pod's own node.
	// +optional
	Ingress *PacketLimit `json:"ingress,omitempty"`
	// Egress limits what the pod sends.
	// +optional
	Egress *PacketLimit `json:"egress,omitempty"`
}

// PacketLimit is a limit in one direction.
type PacketLimit struct {
	// PacketsPerSecond that pass in the long run. 0: all.
	// +optional
	PacketsPerSecond int64 `json:"packetsPerSecond,omitempty"`
	// Burst is how many packets pass at once after a pause.
	// +optional
	Burst int64 `json:"burst,omitempty"`
	// Connections that may be open at a time. 0: any number.
	// +optional
	Connections int64 `json:"connections,omitempty"`
}

// FloatingAddress is an address that is translated, one to one, to the endpoint's own address of the same family.
type FloatingAddress struct {
	// Address without prefix length.
	Address string `json:"address"`
	// Problem says why the address is not the endpoint's. Absent: it is.
	// +optional
	Problem string `json:"problem,omitempty"`
}

// HostEndpoint is an interface of the node, or all of them, and the policies that apply to it. Ingress is what comes in by
// the interface, egress what goes out by it.
type HostEndpoint struct {
	// Name of the HostEndpoint of projectcalico.org.
	Name string `json:"name"`

	// Interface is the name of the interface, or "*" for all interfaces that are no pod's. Empty: those that bear one of
	// the addresses.
	// +optional
	Interface string `json:"interface,omitempty"`

	// Addresses that the interface is expected to have.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// Local decides on traffic to and from the node itself.
	// +optional
	Local DirectionPolicies `json:"local,omitempty"`

	// DefaultAction is what happens to traffic of the node itself on which no tier decided.
	// +kubebuilder:validation:Enum=Allow;Deny
	DefaultAction Action `json:"defaultAction"`

	// Forward decides on traffic that the node passes on. What no tier decides passes.
	// +optional
	Forward DirectionPolicies `json:"forward,omitempty"`

	// PreDNAT decides on all that comes in, before the addresses of services are translated. The tiers' default action is
	// Pass, and what no tier decides passes.
	// +listType=atomic
	// +optional
	PreDNAT []TierPolicies `json:"preDNAT,omitempty"`

	// Untracked decides on all traffic before connections are tracked; what it allows is not tracked. The tiers' default
	// action is Pass, and what no tier decides passes.
	// +optional
	Untracked DirectionPolicies `json:"untracked,omitempty"`
}

// DirectionPolicies are the policies that apply in each direction, tier by tier in order of evaluation.
type DirectionPolicies struct {
	// +listType=atomic
	// +optional
	Ingress []TierPolicies `json:"ingress,omitempty"`
	// +listType=atomic
	// +optional
	Egress []TierPolicies `json:"egress,omitempty"`
}

// TierPolicies are the policies of one tier that apply to an endpoint in one direction.
type TierPolicies struct {
	// Tier is the name of the tier.
	Tier string `json:"tier"`

	// DefaultAction is what happens at the end of the tier to a packet on which no policy decided.
	// +kubebuilder:validation:Enum=Deny;Pass
	DefaultAction Action `json:"defaultAction"`

	// Policies are names of PolicyPrograms, in order of evaluation.
	// +listType=atomic
	Policies []string `json:"policies"`
}

// NamedPort is a port of a container that has a name.
type NamedPort struct {
	Name string `json:"name"`
	// Protocol is the IANA protocol number: 6 TCP, 17 UDP, 132 SCTP.
	Protocol int32 `json:"protocol"`
	// Port number, 1 to 65535.
	Port int32 `json:"port"`
}

// AddressRequest says which addresses an endpoint may get. Both lists empty: one address of each family for which the
// node has a block.
type AddressRequest struct {
	// Pools are the CIDRs of the pools to take from. Empty: any of the node's blocks.
	// +listType=set
	// +optional
	Pools []string `json:"pools,omitempty"`

	// Fixed are addresses that the endpoint must get and no others.
	// +listType=set
	// +optional
	Fixed []string `json:"fixed,omitempty"`

	// Unmanaged: the fixed addresses are taken as they are, whether or not they lie in one of the node's blocks.
	// +optional
	Unmanaged bool `json:"unmanaged,omitempty"`

	// NamedIPv4 and NamedIPv6: the pools of the family are those that the pod or its namespace names. Pools that the node's network
	// configuration names count before others.
	// +optional
	NamedIPv4 bool `json:"namedIPv4,omitempty"`
	// +optional
	NamedIPv6 bool `json:"namedIPv6,omitempty"`

	// Impossible says why the endpoint can get no address at all, with the annotation at fault and what to do.
	// +optional
	Impossible string `json:"impossible,omitempty"`

	// Unserved: it is impossible only because no pool serves the endpoint unasked. The network configuration may know of one.
	// +optional
	Unserved bool `json:"unserved,omitempty"`
}

// BlockLease is an address block that the node may give addresses from.
type BlockLease struct {
	// CIDR of the block, canonical: "10.48.0.64/26".
	CIDR string `json:"cidr"`
	// Pool is the CIDR of the pool that the block was cut from.
	Pool string `json:"pool"`
	// Reserved are addresses and CIDRs in the block that are not given out unless asked for by name.
	// +listType=set
	// +optional
	Reserved []string `json:"reserved,omitempty"`
	// TunnelsOnly: the addresses are for the node's ends of tunnels, and no pod gets one.
	// +optional
	TunnelsOnly bool `json:"tunnelsOnly,omitempty"`
	// Lent are addresses of the block that other nodes may use and this one must not give out.
	// +listType=set
	// +optional
	Lent []string `json:"lent,omitempty"`
	// Withdrawn: the node gives no further address out of the block, and reports when none is in use.
	// +optional
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Revision of the lease. It grows with each change of what the node may give out, also from one lease of the block to the next.
	// +optional
	Revision int64 `json:"revision,omitempty"`
}

// Pool is an address pool as far as nodes need to know it.
type Pool struct {
	// CIDR of the pool, canonical.
	CIDR string `json:"cidr"`
	// Names of the IPPools with the CIDR, in order.
	// +listType=atomic
	// +optional
	Names []string `json:"names,omitempty"`
	// NotForPods says why pods get no new addresses from the pool. Absent: they do.
	// +optional
	NotForPods string `json:"notForPods,omitempty"`
	// NATOutgoing: traffic from the pool to outside all pools takes the node's address.
	// +optional
	NATOutgoing bool `json:"natOutgoing,omitempty"`
	// Encapsulation of packets to the pool's addresses on other nodes. Absent: none.
	// +optional
	Encapsulation TunnelKind `json:"encapsulation,omitempty"`
	// CrossSubnet: only packets to nodes on another subnet are encapsulated.
	// +optional
	CrossSubnet bool `json:"crossSubnet,omitempty"`
	// DisableBGPExport: routes in the pool are not advertised to peers.
	// +optional
	DisableBGPExport bool `json:"disableBGPExport,omitempty"`
	// RoutesByBGP: the routes to the pool's addresses on other nodes are those that BGP learns, not the agent's.
	// +optional
	RoutesByBGP bool `json:"routesByBGP,omitempty"`
}

// TunnelKind is a kind of encapsulation.
// +kubebuilder:validation:Enum=IPIP;VXLAN;VXLANv6
type TunnelKind string

// The kinds of tunnels. VXLANv6 carries IPv6 packets between IPv6 addresses of nodes.
const (
	TunnelIPIP    TunnelKind = "IPIP"
	TunnelVXLAN   TunnelKind = "VXLAN"
	TunnelVXLANv6 TunnelKind = "VXLANv6"
)

// Tunnel is a device that encapsulates packets to pods on other nodes.
type Tunnel struct {
	Kind TunnelKind `json:"kind"`
	// MTU of the device, bytes. 0: that of the node's own interface (see settings.mtuInterfaces) less the encapsulation.
	// +optional
	MTU int32 `json:"mtu,omitempty"`
	// VNI of VXLAN (RFC 7348).
	// +optional
	VNI int32 `json:"vni,omitempty"`
	// Port of VXLAN, UDP.
	// +optional
	Port int32 `json:"port,omitempty"`
	// Pools are the CIDRs of the pools that the device's own address may come from, the preferred first.
	// +listType=atomic
	// +optional
	Pools []string `json:"pools,omitempty"`
}

// BorrowedAddress is a single address of another node's block.
type BorrowedAddress struct {
	// Address without prefix length.
	Address string `json:"address"`
	// Pool is the CIDR of the address's pool.
	Pool string `json:"pool"`
	// Recalled: the node gives the address to no further pod, and reports when none uses it.
	// +optional
	Recalled bool `json:"recalled,omitempty"`
	// Revision of the loan, like that of a block's lease.
	// +optional
	Revision int64 `json:"revision,omitempty"`
}

// AgentSettings are the settings of a node agent.
type AgentSettings struct {
	// MTU of pod interfaces, bytes. 0: the MTU of the node's own interface, less the encapsulation of the tunnel that takes most.
	// +optional
	MTU int32 `json:"mtu,omitempty"`

	// MTUInterfaces is a regular expression (RE2) of the interfaces whose least MTU is that of the node's own. Empty: that of the
	// interface with the node's address counts.
	// +optional
	MTUInterfaces string `json:"mtuInterfaces,omitempty"`

	// ExternalNodes are addresses and CIDRs outside the cluster that may send encapsulated packets to the node, in order.
	// +listType=atomic
	// +optional
	ExternalNodes []string `json:"externalNodes,omitempty"`

	// EndpointToHostAction is applied to traffic from a pod to its own node that the pod's egress policy allowed.
	// Absent: Drop.
	// +kubebuilder:validation:Enum=Drop;Accept;Return
	// +optional
	EndpointToHostAction string `json:"endpointToHostAction,omitempty"`

	// VXLANPort is the UDP port of VXLAN packets, which pods may not send. 0: 4789.
	// +optional
	VXLANPort int32 `json:"vxlanPort,omitempty"`

	// AllowVXLANFromPods and AllowIPIPFromPods let pods send encapsulated packets.
	// +optional
	AllowVXLANFromPods bool `json:"allowVXLANFromPods,omitempty"`
	// +optional
	AllowIPIPFromPods bool `json:"allowIPIPFromPods,omitempty"`

	// ServiceLoops is what becomes of packets from elsewhere to addresses in ranges of services that nothing answers for: otherwise they
	// bounce between the node and its router. Absent: Drop.
	// +kubebuilder:validation:Enum=Drop;Reject;Disabled
	// +optional
	ServiceLoops string `json:"serviceLoops,omitempty"`

	// FailsafeInbound are ports of the node that host endpoints never close to what comes in, in order.
	// +listType=atomic
	// +optional
	FailsafeInbound []FailsafePort `json:"failsafeInbound,omitempty"`
	// FailsafeOutbound are ports elsewhere that host endpoints never close to the node, in order.
	// +listType=atomic
	// +optional
	FailsafeOutbound []FailsafePort `json:"failsafeOutbound,omitempty"`

	// Dataplane to use. Absent: the agent goes by the mode of kube-proxy.
	// +kubebuilder:validation:Enum=nftables;iptables
	// +optional
	Dataplane string `json:"dataplane,omitempty"`

	// KeepDeniedConnections lets connections go on that policies have come to deny.
	// +optional
	KeepDeniedConnections bool `json:"keepDeniedConnections,omitempty"`

	// IPAMCooldownSeconds is how long an address stays unused after its pod has gone.
	// +optional
	IPAMCooldownSeconds int32 `json:"ipamCooldownSeconds,omitempty"`
}

// FailsafePort is a port that stays open.
type FailsafePort struct {
	// Protocol is the IANA protocol number: 6 TCP, 17 UDP, 132 SCTP.
	Protocol int32 `json:"protocol"`
	// Port number, 1 to 65535.
	Port int32 `json:"port"`
	// Net is the CIDR of the other end. Absent: any.
	// +optional
	Net string `json:"net,omitempty"`
}
