package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeEndpoints tells all other nodes which live endpoints one node has. It bears that node's name. It is the only
// rendered object that changes when a pod comes or goes (apart from the NodeState of the pod's own node).
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=nodeendpoints,singular=nodeendpoints
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.spec.count`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeEndpoints struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodeEndpointsSpec `json:"spec,omitempty"`
}

// NodeEndpointsList is a list of NodeEndpoints.
//
// +kubebuilder:object:root=true
type NodeEndpointsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeEndpoints `json:"items"`
}

// NodeEndpointsSpec lists the endpoints of a node that hold addresses.
type NodeEndpointsSpec struct {
	// Count of the endpoints, for people to read.
	// +optional
	Count int32 `json:"count,omitempty"`

	// Endpoints in order of ID.
	// +listType=map
	// +listMapKey=id
	// +optional
	Endpoints []RemoteEndpoint `json:"endpoints,omitempty"`
}

// RemoteEndpoint is what other nodes need to know of an endpoint: who it is, not what applies to it.
type RemoteEndpoint struct {
	// ID is "namespace/name" of the pod.
	ID string `json:"id"`

	// Identities of the endpoint. It is a member of a set when any of them is. One, except while the labels in use
	// change: then the old identity stays beside the new one until every node knows the sets that name the new one.
	// +listType=atomic
	Identities []string `json:"identities"`

	// Addresses without prefix length, IPv4 first.
	// +listType=atomic
	Addresses []string `json:"addresses"`

	// Ports are the named ports of the endpoint.
	// +listType=atomic
	// +optional
	Ports []NamedPort `json:"ports,omitempty"`
}
