package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAMBlock is a block of addresses cut from a pool, the node that has it, and which of the addresses are lent to other nodes. The operator
// writes it. Which addresses pods have stands in the nodes' NodeStates; kubectl manul ipam show --ip finds it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamblocks
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="Affinity",type=string,JSONPath=`.spec.affinity`
// +kubebuilder:printcolumn:name="ClaimTime",type=date,JSONPath=`.spec.affinityClaimTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAMBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAMBlockSpec `json:"spec"`
}

// IPAMBlockList is a list of IPAMBlock.
//
// +kubebuilder:object:root=true
type IPAMBlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAMBlock `json:"items"`
}

// IPAMBlockSpec is the content of a block.
type IPAMBlockSpec struct {
	// CIDR of the block.
	// +kubebuilder:validation:Format=cidr
	CIDR string `json:"cidr"`

	// Affinity is the node or the purpose that the block is leased to, as host:<node> or virtual:<purpose>. Nobody's when absent.
	// +kubebuilder:validation:Pattern=`^(host|virtual):[a-zA-Z0-9\.\-_]+$`
	// +optional
	Affinity *string `json:"affinity,omitempty"`

	// AffinityClaimTime is when the affinity was claimed.
	// +optional
	AffinityClaimTime *metav1.Time `json:"affinityClaimTime,omitempty"`

	// StrictAffinity is false: the IPAMConfiguration says whether nodes borrow single addresses of others' blocks.
	StrictAffinity bool `json:"strictAffinity"`

	// Allocations has, if addresses of the block are lent to other nodes, an entry for each address, in order: the index into attributes, or
	// null when it is not lent. Empty otherwise.
	// +listType=atomic
	Allocations []*int `json:"allocations"`

	// Unallocated is empty: which addresses are free is known to the node alone.
	// +listType=atomic
	Unallocated []int `json:"unallocated"`

	// Attributes tell to which nodes addresses are lent, and how far the loan is.
	// +listType=atomic
	Attributes []AllocationAttribute `json:"attributes"`

	// SequenceNumber grows with each change of the block.
	// +kubebuilder:default=0
	// +optional
	SequenceNumber int64 `json:"sequenceNumber"`

	// SequenceNumberForAllocation has for the ordinal of each lent address the sequence number at which it was.
	// +optional
	SequenceNumberForAllocation map[string]int64 `json:"sequenceNumberForAllocation,omitempty"`

	// Deleted marks a block that is about to be deleted.
	// +optional
	Deleted bool `json:"deleted,omitempty"`
}

// AllocationAttribute tells what an address is used for.
type AllocationAttribute struct {
	// HandleID names the IPAMHandle that holds the address.
	// +optional
	HandleID *string `json:"handle_id,omitempty"`

	// ActiveOwnerAttrs describe the owner: node, pod and namespace among others.
	// +optional
	ActiveOwnerAttrs map[string]string `json:"secondary,omitempty"`

	// AlternateOwnerAttrs describe the owner that takes over, as when a virtual machine migrates.
	// +optional
	AlternateOwnerAttrs map[string]string `json:"alternateOwnerAttrs,omitempty"`

	// ReleasedAt is when the address was given back; it is not used again before the cooldown has passed.
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
}
