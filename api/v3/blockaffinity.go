package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BlockAffinityState is how far a claim of a block is.
//
// +kubebuilder:validation:Enum="";confirmed;pending;pendingDeletion
type BlockAffinityState string

const (
	// StateConfirmed means that the block is the node's.
	StateConfirmed BlockAffinityState = "confirmed"
	// StatePending means that the node is claiming the block.
	StatePending BlockAffinityState = "pending"
	// StatePendingDeletion means that the node is giving the block back.
	StatePendingDeletion BlockAffinityState = "pendingDeletion"
)

// BlockAffinity is the lease of a block of addresses to a node. The operator writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=blockaffinities,shortName={affinity,affinities}
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BlockAffinity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BlockAffinitySpec `json:"spec"`
}

// BlockAffinityList is a list of BlockAffinity.
//
// +kubebuilder:object:root=true
type BlockAffinityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BlockAffinity `json:"items"`
}

// BlockAffinitySpec is the content of a lease.
type BlockAffinitySpec struct {
	// State of the claim: pending, confirmed or pendingDeletion.
	State BlockAffinityState `json:"state"`

	// Node that the block is leased to.
	Node string `json:"node"`

	// Type of the owner: host, or virtual for a purpose such as load balancers.
	// +optional
	Type string `json:"type,omitempty"`

	// CIDR of the block.
	// +kubebuilder:validation:Format=cidr
	CIDR string `json:"cidr"`

	// Deleted marks a lease that is about to be deleted.
	// +kubebuilder:default=false
	Deleted bool `json:"deleted"`
}
