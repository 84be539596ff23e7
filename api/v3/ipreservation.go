package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPReservation keeps addresses from being given out unless a pod asks for them by name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipreservations
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPReservationSpec `json:"spec"`
}

// IPReservationList is a list of IPReservation.
//
// +kubebuilder:object:root=true
type IPReservationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPReservation `json:"items"`
}

// IPReservationSpec is what the user asks of an IPReservation.
type IPReservationSpec struct {
	// ReservedCIDRs are the addresses that are not given out by themselves.
	// +kubebuilder:validation:items:Format=cidr
	// +listType=set
	// +optional
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"`
}
