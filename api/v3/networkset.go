package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetworkSet gives labels to a list of networks, so that the rules of policies can select them. It belongs to its namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,path=networksets
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NetworkSetSpec `json:"spec"`
}

// NetworkSetList is a list of NetworkSet.
//
// +kubebuilder:object:root=true
type NetworkSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkSet `json:"items"`
}

// NetworkSetSpec is what the user asks of a NetworkSet.
type NetworkSetSpec struct {
	// Nets are the CIDRs of the set, of both families if wanted. An address stands for itself.
	// +kubebuilder:validation:MaxItems=65536
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self)",message="must be a network such as 10.0.0.0/8 or 2001:db8::/32, or an address"
	// +listType=set
	// +optional
	Nets []string `json:"nets,omitempty"`
}

// GlobalNetworkSet gives labels to a list of networks, so that the rules of policies can select them. It belongs to no
// namespace: rules of namespaced policies reach it with namespaceSelector global().
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=globalnetworksets,shortName={gns}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GlobalNetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec GlobalNetworkSetSpec `json:"spec"`
}

// GlobalNetworkSetList is a list of GlobalNetworkSet.
//
// +kubebuilder:object:root=true
type GlobalNetworkSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GlobalNetworkSet `json:"items"`
}

// GlobalNetworkSetSpec is what the user asks of a GlobalNetworkSet.
type GlobalNetworkSetSpec struct {
	// Nets are the CIDRs of the set, of both families if wanted. An address stands for itself.
	// +kubebuilder:validation:MaxItems=65536
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || isIP(self)",message="must be a network such as 10.0.0.0/8 or 2001:db8::/32, or an address"
	// +listType=set
	// +optional
	Nets []string `json:"nets,omitempty"`
}
