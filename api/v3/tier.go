package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tier is a stage of policy: tiers are tried in their order, and in each the policies that select the endpoint.
// kube-admin, default and kube-baseline are built in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=tiers
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=`.spec.order`
// +kubebuilder:printcolumn:name="DefaultAction",type=string,JSONPath=`.spec.defaultAction`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Tier struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TierSpec   `json:"spec"`
	Status TierStatus `json:"status,omitzero"`
}

// TierList is a list of Tier.
//
// +kubebuilder:object:root=true
type TierList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Tier `json:"items"`
}

// TierSpec is what the user asks of a Tier.
type TierSpec struct {
	// Order of the tier: the lowest number comes first, tiers without an order come last. Ties are decided by name.
	// +optional
	Order *float64 `json:"order,omitempty"`

	// DefaultAction for traffic of an endpoint that a policy of this tier selects and that no rule of the tier decided:
	// Deny drops it, Pass leaves it to the next tier.
	// +kubebuilder:default=Deny
	// +kubebuilder:validation:XValidation:rule="self in ['Deny', 'Pass']",message="must be Deny or Pass"
	// +optional
	DefaultAction Action `json:"defaultAction,omitempty"`
}

// TierStatus is what became of a Tier.
type TierStatus struct {
	// Conditions: Ready (the tier is valid and in use).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
