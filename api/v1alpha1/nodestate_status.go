package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Carrier of news to a node.
// +kubebuilder:validation:Enum=Stream;API
type Carrier string

// The carriers.
const (
	CarrierStream Carrier = "Stream"
	CarrierAPI    Carrier = "API"
)

// NodeStateStatus is the agent's part: what is in effect on the node.
type NodeStateStatus struct {
	// ObservedGeneration is the newest generation of this NodeState that is in effect on the node.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Applied gives, for each rendered kind that the agent follows (PolicyProgram, SetCatalog, NodeEndpoints,
	// NodeNetwork), the highest resource version up to which everything is in effect on the node.
	// +optional
	Applied map[string]string `json:"applied,omitempty"`

	// Carrier is how news comes to the node: by the operator's stream, or by the API's objects. While all nodes are on the stream the
	// operator need not write the latter at once.
	// +optional
	Carrier Carrier `json:"carrier,omitempty"`

	// Endpoints are the addresses that pods of the node hold, in order of ID.
	// +listType=map
	// +listMapKey=id
	// +optional
	Endpoints []EndpointStatus `json:"endpoints,omitempty"`

	// Network is what the node's network configuration says of addresses. Absent: nothing; the operator's word alone counts.
	// +optional
	Network *NetworkStatus `json:"network,omitempty"`

	// Leases say what the node has agreed to about blocks that are withdrawn or of which addresses are lent, and about borrowed
	// addresses (as blocks of one address), in order of CIDR.
	// +listType=map
	// +listMapKey=cidr
	// +optional
	Leases []LeaseStatus `json:"leases,omitempty"`

	// Attachments are those of containers about which the node's journal of addresses and its kernel differ for longer than a moment, in
	// order of reason and name; the first when there are too many.
	// +listType=atomic
	// +optional
	Attachments []AttachmentStatus `json:"attachments,omitempty"`

	// AttachmentsTotal is how many there are.
	// +optional
	AttachmentsTotal int32 `json:"attachmentsTotal,omitempty"`

	// NodeAddresses are the node's own addresses with the prefix length of their subnets, at most one of each family, IPv4
	// first: "192.0.2.10/24".
	// +listType=atomic
	// +optional
	NodeAddresses []string `json:"nodeAddresses,omitempty"`

	// Tunnels are the node's ends of tunnels, in order of their kind.
	// +listType=map
	// +listMapKey=kind
	// +optional
	Tunnels []TunnelEnd `json:"tunnels,omitempty"`

	// BGPSessions are the node's BGP sessions, in order of their name. Of those of the mesh and of groups only some that are not
	// Established are among them.
	// +listType=map
	// +listMapKey=name
	// +optional
	BGPSessions []BGPSessionStatus `json:"bgpSessions,omitempty"`

	// BGPGroups count the sessions of the mesh and of groups, in order of name and family.
	// +listType=map
	// +listMapKey=name
	// +listMapKey=family
	// +optional
	BGPGroups []BGPGroupStatus `json:"bgpGroups,omitempty"`

	// Report answers the Inquiry.
	// +optional
	Report *Report `json:"report,omitempty"`

	// Failures are the items that could not be put into effect. What is not listed is in effect.
	// +listType=atomic
	// +optional
	Failures []Failure `json:"failures,omitempty"`

	// Dataplane in use: "nftables" or "iptables".
	// +optional
	Dataplane string `json:"dataplane,omitempty"`

	// Sequence grows with each report of the agent, also beyond its restart: of two statuses that came different ways the one with
	// the higher counts.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`

	// AgentVersion is the version of the agent that wrote this status.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`

	// Summary counts what is in effect.
	// +optional
	Summary Summary `json:"summary,omitempty"`

	// Conditions of the agent: Ready.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EndpointStatus gives the addresses that a pod holds.
type EndpointStatus struct {
	// ID is "namespace/name" of the pod.
	ID string `json:"id"`
	// UID of the pod; empty when the runtime asked before the node knew of the pod.
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// Addresses of the pod without prefix length: those of its first interface, IPv4 first, and then the others'.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`
	// External: an IPAM plugin of the network configuration gave the addresses.
	// +optional
	External bool `json:"external,omitempty"`
	// Chained: another plugin of the network configuration made the pod's interface, gave the addresses and sees to routes; here is policy alone.
	// +optional
	Chained bool `json:"chained,omitempty"`
	// Others are the pod's interfaces on this network beside its first, in order of name.
	// +listType=map
	// +listMapKey=name
	// +optional
	Others []InterfaceStatus `json:"others,omitempty"`
}

// Interfaces are the pod's first interface, without a name, and its others, each with its own addresses.
func (e *EndpointStatus) Interfaces() []InterfaceStatus {
	first := InterfaceStatus{Addresses: e.Addresses, External: e.External, Chained: e.Chained}
	if len(e.Others) == 0 {
		return []InterfaceStatus{first}
	}
	theirs := map[string]bool{}
	for i := range e.Others {
		for _, addr := range e.Others[i].Addresses {
			theirs[addr] = true
		}
	}
	first.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(addr string) bool { return theirs[addr] })
	return append([]InterfaceStatus{first}, e.Others...)
}

// AnyExternal tells whether IPAM plugins gave any of the addresses.
func (e *EndpointStatus) AnyExternal() bool {
	return e.External || slices.ContainsFunc(e.Others, func(i InterfaceStatus) bool { return i.External })
}

// InterfaceStatus is an interface of a pod.
type InterfaceStatus struct {
	// Name in the pod.
	Name string `json:"name"`
	// Addresses, IPv4 first, without prefix length. They are among the pod's too.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`
	// External: an IPAM plugin of the network configuration gave the addresses.
	// +optional
	External bool `json:"external,omitempty"`
	// Chained: another plugin of the network configuration made the interface, gave the addresses and sees to routes.
	// +optional
	Chained bool `json:"chained,omitempty"`
}

// NetworkStatus is what a node's network configuration (CNI) says of addresses.
type NetworkStatus struct {
	// External: an IPAM plugin gives pods their addresses, and no block is needed for those that have none.
	// +optional
	External bool `json:"external,omitempty"`
	// Asks are the pools that the configuration has pods take addresses from.
	// +listType=atomic
	// +optional
	Asks []PoolsAsk `json:"asks,omitempty"`
}

// PoolsAsk is how many pods ask for addresses from some pools.
type PoolsAsk struct {
	// Pools are CIDRs of pools of one family.
	// +listType=atomic
	Pools []string `json:"pools"`
	// Endpoints that have no address from them yet.
	// +optional
	Endpoints int32 `json:"endpoints,omitempty"`
}

// MaxReportedAttachments bounds the list of attachments in a NodeState's status.
const MaxReportedAttachments = 50

// AttachmentStatus is a container's attachment about which journal and kernel differ.
type AttachmentStatus struct {
	// Reason: Forgotten (nothing speaks for it but the journal), InterfaceMissing (its pod is there), InterfaceUnknown (an interface
	// bears its mark, and the journal does not have it).
	Reason string `json:"reason"`
	// Name of the attachment: container and interface, "c1/eth0".
	Name string `json:"name"`
	// Endpoint is "namespace/name" of the pod.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// Addresses that the attachment keeps in use, without prefix length.
	// +listType=atomic
	// +optional
	Addresses []string `json:"addresses,omitempty"`
	// Interface that bears the attachment's mark.
	// +optional
	Interface string `json:"interface,omitempty"`
	// Since when they differ, as far as the agent looked.
	Since metav1.Time `json:"since"`
	// ReleaseAt is when the addresses go back, if nothing changes; or would, if the agent did not run with --keep-forgotten. Absent: not
	// by themselves.
	// +optional
	ReleaseAt metav1.Time `json:"releaseAt,omitzero"`
}

// LeaseStatus is a node's word about a block, or about a borrowed address.
type LeaseStatus struct {
	// CIDR of the block; of a borrowed address a single one: "10.48.0.7/32".
	CIDR string `json:"cidr"`
	// Revision of the lease that the node goes by.
	Revision int64 `json:"revision"`
	// Released: it is withdrawn, or recalled, and the node neither uses any of its addresses nor will.
	// +optional
	Released bool `json:"released,omitempty"`
	// Withheld are those of the lent addresses that the node neither uses nor will, in order.
	// +listType=set
	// +optional
	Withheld []string `json:"withheld,omitempty"`
}

// Failure is one item that could not be put into effect.
type Failure struct {
	// Kind of the item: a rendered kind, "Endpoint", "HostEndpoint", "Route", "Tunnel", "Address" (a pod that could not be given one), or
	// "KubeProxy" (in a mode in which packets pass policies by).
	Kind string `json:"kind"`
	// Name of the item.
	Name string `json:"name"`
	// Message says what was being done and what went wrong.
	Message string `json:"message"`
}

// Summary counts what is in effect on a node.
type Summary struct {
	// +optional
	Endpoints int32 `json:"endpoints"`
	// HostEndpoints counts the interfaces of the node that have one; the one for all interfaces counts once.
	// +optional
	HostEndpoints int32 `json:"hostEndpoints,omitempty"`
	// +optional
	Policies int32 `json:"policies"`
	// +optional
	Sets int32 `json:"sets"`
	// +optional
	Routes int32 `json:"routes"`
}
