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
}
