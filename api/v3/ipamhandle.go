package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAMHandle finds the addresses of one owner, such as a pod's sandbox. It is there for tools that look for it: nothing writes or reads it.
// What addresses a pod has stands in its node's NodeState; kubectl manul ipam show --ip finds it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamhandles
// +kubebuilder:printcolumn:name="ID",type=string,JSONPath=`.spec.handleID`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAMHandle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAMHandleSpec `json:"spec"`
}

// IPAMHandleList is a list of IPAMHandle.
//
// +kubebuilder:object:root=true
type IPAMHandleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAMHandle `json:"items"`
}

// IPAMHandleSpec is the content of a handle.
type IPAMHandleSpec struct {
	// HandleID that the attributes of addresses refer to.
	HandleID string `json:"handleID"`

	// Block has for the CIDR of each block the number of addresses that the handle holds there.
	Block map[string]int `json:"block"`

	// Deleted marks a handle that is about to be deleted.
	// +optional
	Deleted bool `json:"deleted,omitempty"`
}
