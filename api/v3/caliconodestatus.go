package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeStatusClass is a part of a node's status.
//
// +kubebuilder:validation:Enum=Agent;BGP;Routes
type NodeStatusClass string

const (
	// NodeStatusClassAgent is the state of the BGP program.
	NodeStatusClassAgent NodeStatusClass = "Agent"
	// NodeStatusClassBGP is the state of the BGP sessions.
	NodeStatusClassBGP NodeStatusClass = "BGP"
	// NodeStatusClassRoutes is the routes.
	NodeStatusClassRoutes NodeStatusClass = "Routes"
)

// BGPDaemonState says whether the BGP program serves.
//
// +kubebuilder:validation:Enum=Ready;NotReady
type BGPDaemonState string

const (
	// BGPDaemonReady means that it does.
	BGPDaemonReady BGPDaemonState = "Ready"
	// BGPDaemonNotReady means that it does not.
	BGPDaemonNotReady BGPDaemonState = "NotReady"
)

// CalicoNodeStatus asks a node for its state, which then stands in the object's status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=caliconodestatuses
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Classes",type=string,JSONPath=`.spec.classes`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type CalicoNodeStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CalicoNodeStatusSpec   `json:"spec"`
	Status CalicoNodeStatusStatus `json:"status,omitzero"`
}

// CalicoNodeStatusList is a list of CalicoNodeStatus.
//
// +kubebuilder:object:root=true
type CalicoNodeStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CalicoNodeStatus `json:"items"`
}

// CalicoNodeStatusSpec says what is asked for.
type CalicoNodeStatusSpec struct {
	// Node that is asked.
	// +optional
	Node string `json:"node,omitempty"`

	// Classes are the parts of the status to report: Agent, BGP, Routes.
	// +listType=set
	// +optional
	Classes []NodeStatusClass `json:"classes,omitempty"`

	// UpdatePeriodSeconds between reports. 0 stops them.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	// +optional
	UpdatePeriodSeconds *uint32 `json:"updatePeriodSeconds,omitempty"`
}

// CalicoNodeStatusStatus is the node's answer.
type CalicoNodeStatusStatus struct {
	// LastUpdated is when the node answered.
	// +nullable
	// +optional
	LastUpdated metav1.Time `json:"lastUpdated,omitzero"`

	// Agent is the state of the BGP program.
	// +optional
	Agent NodeAgentStatus `json:"agent,omitzero"`

	// BGP is the state of the sessions.
	// +optional
	BGP NodeBGPStatus `json:"bgp,omitzero"`

	// Routes of the node.
	// +optional
	Routes NodeRouteStatus `json:"routes,omitzero"`
}

// NodeAgentStatus is the state of the BGP program, for each family.
type NodeAgentStatus struct {
	// BIRDV4 is the state for IPv4. The name is that of the program that other implementations run.
	// +optional
	BIRDV4 BGPDaemonStatus `json:"birdV4,omitzero"`

	// BIRDV6 is the state for IPv6.
	// +optional
	BIRDV6 BGPDaemonStatus `json:"birdV6,omitzero"`
}

// BGPDaemonStatus is the state of the BGP program.
type BGPDaemonStatus struct {
	// State: Ready or NotReady.
	// +optional
	State BGPDaemonState `json:"state,omitempty"`

	// Version of the program.
	// +optional
	Version string `json:"version,omitempty"`

	// RouterID of the node.
	// +optional
	RouterID string `json:"routerID,omitempty"`

	// LastBootTime is when the program started.
	// +optional
	LastBootTime string `json:"lastBootTime,omitempty"`

	// LastReconfigurationTime is when its configuration last changed.
	// +optional
	LastReconfigurationTime string `json:"lastReconfigurationTime,omitempty"`
}

// NodeBGPStatus is the state of the sessions.
type NodeBGPStatus struct {
	// NumberEstablishedV4 counts the IPv4 sessions that are up.
	NumberEstablishedV4 int `json:"numberEstablishedV4"`

	// NumberNotEstablishedV4 counts the IPv4 sessions that are not up.
	NumberNotEstablishedV4 int `json:"numberNotEstablishedV4"`

	// NumberEstablishedV6 counts the IPv6 sessions that are up.
	NumberEstablishedV6 int `json:"numberEstablishedV6"`

	// NumberNotEstablishedV6 counts the IPv6 sessions that are not up.
	NumberNotEstablishedV6 int `json:"numberNotEstablishedV6"`

	// PeersV4 are the IPv4 sessions.
	// +listType=atomic
	// +optional
	PeersV4 []NodePeer `json:"peersV4,omitempty"`

	// PeersV6 are the IPv6 sessions.
	// +listType=atomic
	// +optional
	PeersV6 []NodePeer `json:"peersV6,omitempty"`
}

// NodePeer is a session.
type NodePeer struct {
	// PeerIP is the address of the peer.
	// +optional
	PeerIP string `json:"peerIP,omitempty"`

	// Type of the session: NodeMesh, NodePeer (of a BGPPeer for some nodes) or GlobalPeer (of a BGPPeer for all).
	// +kubebuilder:validation:Enum=NodeMesh;NodePeer;GlobalPeer
	// +optional
	Type string `json:"type,omitempty"`

	// State of the session (RFC 4271).
	// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established;Close
	// +optional
	State string `json:"state,omitempty"`

	// Since when the session has had its state.
	// +optional
	Since string `json:"since,omitempty"`
}

// NodeRouteStatus is the routes of the node.
type NodeRouteStatus struct {
	// RoutesV4 are the IPv4 routes.
	// +listType=atomic
	// +optional
	RoutesV4 []NodeRoute `json:"routesV4,omitempty"`

	// RoutesV6 are the IPv6 routes.
	// +listType=atomic
	// +optional
	RoutesV6 []NodeRoute `json:"routesV6,omitempty"`
}

// NodeRoute is a route.
type NodeRoute struct {
	// Type: FIB (in the kernel) or RIB (known to BGP only).
	// +kubebuilder:validation:Enum=FIB;RIB
	// +optional
	Type string `json:"type,omitempty"`

	// Destination of the route.
	// +optional
	Destination string `json:"destination,omitempty"`

	// Gateway of the route.
	// +optional
	Gateway string `json:"gateway,omitempty"`

	// Interface of the route.
	// +optional
	Interface string `json:"interface,omitempty"`

	// LearnedFrom says where the route comes from.
	// +optional
	LearnedFrom NodeRouteSource `json:"learnedFrom,omitzero"`
}

// NodeRouteSource says where a route comes from.
type NodeRouteSource struct {
	// SourceType: Kernel, Static, Direct (a network of the node), NodeMesh or BGPPeer.
	// +kubebuilder:validation:Enum=Kernel;Static;Direct;NodeMesh;BGPPeer
	// +optional
	SourceType string `json:"sourceType,omitempty"`

	// PeerIP is the address of the peer that sent the route.
	// +optional
	PeerIP string `json:"peerIP,omitempty"`
}
