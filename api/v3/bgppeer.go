package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a BGP session of some nodes with a peer outside the cluster, or with other nodes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=bgppeers
// +kubebuilder:printcolumn:name="Node Selector",type=string,JSONPath=`.spec.nodeSelector`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Local ASN",type=integer,JSONPath=`.spec.localASNumber`
// +kubebuilder:printcolumn:name="Peer Selector",type=string,JSONPath=`.spec.peerSelector`
// +kubebuilder:printcolumn:name="Peer IP",type=string,JSONPath=`.spec.peerIP`
// +kubebuilder:printcolumn:name="Peer ASN",type=integer,JSONPath=`.spec.asNumber`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPPeerSpec `json:"spec"`
	Status BGPStatus   `json:"status,omitzero"`
}

// BGPPeerList is a list of BGPPeer.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}

// BGPPeerSpec is what the user asks of a BGPPeer.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.node) && size(self.node) > 0 && has(self.nodeSelector) && size(self.nodeSelector) > 0)",message="node and nodeSelector exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerIP) && size(self.peerIP) > 0 && has(self.peerSelector) && size(self.peerSelector) > 0)",message="peerIP and peerSelector exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="!(has(self.localWorkloadSelector) && size(self.localWorkloadSelector) > 0) || !(has(self.peerIP) && size(self.peerIP) > 0 || has(self.peerSelector) && size(self.peerSelector) > 0)",message="localWorkloadSelector excludes peerIP and peerSelector: remove either"
// +kubebuilder:validation:XValidation:rule="has(self.peerIP) && size(self.peerIP) > 0 || has(self.peerSelector) && size(self.peerSelector) > 0 || has(self.localWorkloadSelector) && size(self.localWorkloadSelector) > 0",message="the peer is missing: give peerIP, peerSelector or localWorkloadSelector"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerIP) && size(self.peerIP) > 0) || has(self.asNumber) && self.asNumber > 0",message="asNumber is missing: a peer by peerIP needs its AS number"
// +kubebuilder:validation:XValidation:rule="!(has(self.localWorkloadSelector) && size(self.localWorkloadSelector) > 0) || has(self.asNumber) && self.asNumber > 0",message="asNumber is missing: peers by localWorkloadSelector need their AS number"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerSelector) && size(self.peerSelector) > 0) || !has(self.asNumber) || self.asNumber == 0",message="asNumber must be absent with peerSelector: nodes have their own AS numbers"
// +kubebuilder:validation:XValidation:rule="!(has(self.reachableBy) && size(self.reachableBy) > 0) || has(self.peerIP) && size(self.peerIP) > 0",message="reachableBy needs peerIP: it is the gateway to that address"
// +kubebuilder:validation:XValidation:rule="!(has(self.keepOriginalNextHop) && self.keepOriginalNextHop && has(self.nextHopMode))",message="keepOriginalNextHop and nextHopMode exclude each other: write nextHopMode Keep alone"
type BGPPeerSpec struct {
	// Node that peers. Excludes nodeSelector; all nodes peer when both are absent.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`

	// NodeSelector picks the nodes that peer. Excludes node.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// PeerIP is the address of the peer, with a port if it is not 179: 192.0.2.1, 192.0.2.1:1790, [2001:db8::1]:1790.
	// Excludes peerSelector.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self) || self.matches('^[0-9.]+:[0-9]{1,5}$') && isIP(self.split(':')[0]) || self.matches('^\\\\[[0-9a-fA-F:.]+\\\\]:[0-9]{1,5}$') && isIP(self.substring(1, self.indexOf(']')))",message="must be an IP address, with a port if it is not 179: 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790"
	// +optional
	PeerIP string `json:"peerIP,omitempty"`

	// ASNumber of the peer. Needed with peerIP.
	// +optional
	ASNumber ASNumber `json:"asNumber,omitempty"`

	// LocalASNumber is the AS number that the nodes use in this session. Their own when absent.
	// +optional
	LocalASNumber *ASNumber `json:"localASNumber,omitempty"`

	// PeerSelector picks the nodes to peer with. Excludes peerIP.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	PeerSelector string `json:"peerSelector,omitempty"`

	// LocalWorkloadSelector picks pods of the same node to peer with. Excludes peerIP and peerSelector.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	LocalWorkloadSelector string `json:"localWorkloadSelector,omitempty"`

	// ReversePeering: Auto has the nodes of peerSelector peer back, Manual leaves that to another BGPPeer. Auto when absent.
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self in ['Auto', 'Manual']",message="must be Auto or Manual"
	// +optional
	ReversePeering string `json:"reversePeering,omitempty"`

	// KeepOriginalNextHop keeps the next hop of routes that are sent on to the peer. Prefer nextHopMode Keep.
	// +optional
	KeepOriginalNextHop bool `json:"keepOriginalNextHop,omitempty"`

	// NextHopMode of routes sent to the peer: Auto (RFC 4271), Self (the node's own address) or Keep (as received).
	// +kubebuilder:validation:Enum=Auto;Self;Keep
	// +optional
	NextHopMode *string `json:"nextHopMode,omitempty"`

	// Password of the session.
	// +optional
	Password *BGPPassword `json:"password,omitempty"`

	// SourceAddress: UseNodeIP opens the session from the node's BGP address, None lets the kernel choose. UseNodeIP when absent.
	// +kubebuilder:validation:Enum=UseNodeIP;None
	// +optional
	SourceAddress string `json:"sourceAddress,omitempty"`

	// MaxRestartTime is how long the routes of a peer that restarts are kept (RFC 4724), such as 120s.
	// +optional
	MaxRestartTime *Duration `json:"maxRestartTime,omitempty"`

	// KeepaliveTime between messages that keep the session up, such as 30s. A third of the hold time when absent.
	// +optional
	KeepaliveTime *Duration `json:"keepaliveTime,omitempty"`

	// NumAllowedLocalASNumbers is how often the nodes' own AS number may be in the path of a route from the peer. 0 when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	// +optional
	NumAllowedLocalASNumbers *int32 `json:"numAllowedLocalASNumbers,omitempty"`

	// TTLSecurity is how many hops away the peer may be (RFC 5082), 0 to 255. Not checked when absent or 0.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 255",message="must be from 0 to 255"
	// +optional
	TTLSecurity *int `json:"ttlSecurity,omitempty"`

	// ReachableBy is the gateway to a peer that is not on a network of the node.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",message="must be an IP address such as 192.0.2.1"
	// +optional
	ReachableBy string `json:"reachableBy,omitempty"`

	// Filters are the BGPFilters of the session, applied in order.
	// +listType=atomic
	// +optional
	Filters []string `json:"filters,omitempty"`
}
