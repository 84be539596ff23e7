package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SetCatalog says who is in the sets that programs name: which identities, and which CIDRs from network sets. The sets
// are spread over shards by their IDs, so that a change of one set writes one small object; a shard's name is
// "sets-" and the first two hexadecimal digits of its sets' IDs.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=setcatalogs
// +kubebuilder:printcolumn:name="Sets",type=integer,JSONPath=`.spec.count`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SetCatalog struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SetCatalogSpec `json:"spec,omitempty"`
}

// SetCatalogList is a list of SetCatalog.
//
// +kubebuilder:object:root=true
type SetCatalogList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SetCatalog `json:"items"`
}

// SetCatalogSpec holds the sets of one shard.
type SetCatalogSpec struct {
	// Count of the sets, for people to read.
	// +optional
	Count int32 `json:"count,omitempty"`

	// Sets in order of ID.
	// +listType=map
	// +listMapKey=id
	// +optional
	Sets []Set `json:"sets,omitempty"`
}

// Set is a set of addresses: those of the endpoints with one of the identities, and the CIDRs. Or, if it is one of ports,
// a set of addresses each with a protocol and a port.
type Set struct {
	// ID is 16 hexadecimal digits, a hash of what the set stands for.
	ID string `json:"id"`

	// Selector that the set stands for, for people to read.
	// +optional
	Selector string `json:"selector,omitempty"`

	// Nodes is the selector of the nodes whose addresses the set holds, for people to read.
	// +optional
	Nodes string `json:"nodes,omitempty"`

	// Service whose ready endpoints the set holds, "namespace/name", for people to read.
	// +optional
	Service string `json:"service,omitempty"`

	// OfPorts: the set holds members, and neither identities nor CIDRs. Rules name it among portSets.
	// +optional
	OfPorts bool `json:"ofPorts,omitempty"`

	// Identities in the set, in order.
	// +listType=atomic
	// +optional
	Identities []string `json:"identities,omitempty"`

	// CIDRs in the set (of network sets, of nodes and of the endpoints of services), canonical and in order.
	// +listType=atomic
	// +optional
	CIDRs []string `json:"cidrs,omitempty"`

	// Members of a set of ports, in order of protocol and port.
	// +listType=atomic
	// +optional
	Members []PortMembers `json:"members,omitempty"`
}

// PortMembers are the addresses that a set of ports holds with one protocol and port.
type PortMembers struct {
	// Protocol is the IANA protocol number: 6 TCP, 17 UDP, 132 SCTP.
	Protocol int32 `json:"protocol"`
	// Port number, 1 to 65535.
	Port int32 `json:"port"`
	// Addresses without prefix length, in order.
	// +listType=atomic
	Addresses []string `json:"addresses"`
}
