package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NetworkPolicy decides the traffic of pods of its namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=networkpolicies,shortName={cnp,caliconetworkpolicy}
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=`.spec.order`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NetworkPolicySpec `json:"spec"`
	Status PolicyStatus      `json:"status,omitzero"`
}

// NetworkPolicyList is a list of NetworkPolicy.
//
// +kubebuilder:object:root=true
type NetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkPolicy `json:"items"`
}

// NetworkPolicySpec is what the user asks of a NetworkPolicy.
type NetworkPolicySpec struct {
	// Tier that the policy belongs to. It must exist.
	// +kubebuilder:default=default
	// +optional
	Tier string `json:"tier,omitempty"`

	// Order of the policy in its tier: the lowest number comes first, policies without an order come last.
	// Ties are decided by name/namespace/kind.
	// +optional
	Order *float64 `json:"order,omitempty"`

	// Ingress rules, tried in order for traffic to the selected endpoints.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:XValidation:rule="!has(self.destination) || !has(self.destination.services)",message="destination.services is for egress rules: in an ingress rule give source.services"
	// +listType=atomic
	// +optional
	Ingress []Rule `json:"ingress,omitempty"`

	// Egress rules, tried in order for traffic from the selected endpoints.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:XValidation:rule="!has(self.http)",message="http is for ingress rules: move the rule to ingress or leave http out"
	// +kubebuilder:validation:items:XValidation:rule="!has(self.source) || !has(self.source.services)",message="source.services is for ingress rules: in an egress rule give destination.services"
	// +kubebuilder:validation:items:XValidation:rule="!has(self.destination) || !has(self.destination.services) || !(has(self.destination.ports) && size(self.destination.ports) > 0 || has(self.destination.notPorts) && size(self.destination.notPorts) > 0)",message="destination.services brings its own ports: remove ports and notPorts"
	// +listType=atomic
	// +optional
	Egress []Rule `json:"egress,omitempty"`

	// Selector picks the pods of the policy's namespace that the policy applies to. All of them when empty.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// Types are the directions that the policy applies to. When absent: Egress if there are only egress rules, both if there
	// are rules of both kinds, else Ingress.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Types []PolicyType `json:"types,omitempty"`

	// ServiceAccountSelector limits the policy to pods whose service account has matching labels.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ServiceAccountSelector string `json:"serviceAccountSelector,omitempty"`

	// PerformanceHints tell how the policy is best put into effect; they never change what it means.
	// +listType=set
	// +optional
	PerformanceHints []PolicyPerformanceHint `json:"performanceHints,omitempty"`
}
