package v3

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StagedAction is what a staged policy stands for.
//
// +kubebuilder:validation:Enum=Set;Delete;Learn;Ignore
type StagedAction string

const (
	// StagedActionSet stands for creating the policy, or replacing the one of the same name.
	StagedActionSet StagedAction = "Set"
	// StagedActionDelete stands for deleting the policy of the same name.
	StagedActionDelete StagedAction = "Delete"
	// StagedActionLearn stands for a policy that is being learned from traffic.
	StagedActionLearn StagedAction = "Learn"
	// StagedActionIgnore has the staged policy ignored.
	StagedActionIgnore StagedAction = "Ignore"
)

// StagedNetworkPolicy is a NetworkPolicy that is tried out: it counts what it would do and decides nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=stagednetworkpolicies,shortName={scnp,snp}
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=`.spec.order`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type StagedNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StagedNetworkPolicySpec `json:"spec"`
	Status PolicyStatus            `json:"status,omitzero"`
}

// StagedNetworkPolicyList is a list of StagedNetworkPolicy.
//
// +kubebuilder:object:root=true
type StagedNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StagedNetworkPolicy `json:"items"`
}

// StagedNetworkPolicySpec is the policy that is tried out.
//
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.order) || has(self.ingress) && size(self.ingress) > 0 || has(self.egress) && size(self.egress) > 0 || has(self.selector) && size(self.selector) > 0 || has(self.types) && size(self.types) > 0 || has(self.serviceAccountSelector) && size(self.serviceAccountSelector) > 0)",message="stagedAction Delete stands for deleting the policy of this name: leave out everything but tier and stagedAction"
type StagedNetworkPolicySpec struct {
	// StagedAction is what the staged policy stands for: Set (create or replace the policy of this name), Delete (delete it),
	// Learn or Ignore.
	// +kubebuilder:default=Set
	// +optional
	StagedAction StagedAction `json:"stagedAction,omitempty"`

	NetworkPolicySpec `json:",inline"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is tried out: it counts what it would do and decides nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=stagedglobalnetworkpolicies,shortName={sgnp}
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=`.spec.order`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type StagedGlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StagedGlobalNetworkPolicySpec `json:"spec"`
	Status PolicyStatus                  `json:"status,omitzero"`
}

// StagedGlobalNetworkPolicyList is a list of StagedGlobalNetworkPolicy.
//
// +kubebuilder:object:root=true
type StagedGlobalNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StagedGlobalNetworkPolicy `json:"items"`
}

// StagedGlobalNetworkPolicySpec is the policy that is tried out.
//
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.order) || has(self.ingress) && size(self.ingress) > 0 || has(self.egress) && size(self.egress) > 0 || has(self.selector) && size(self.selector) > 0 || has(self.namespaceSelector) && size(self.namespaceSelector) > 0 || has(self.types) && size(self.types) > 0 || has(self.serviceAccountSelector) && size(self.serviceAccountSelector) > 0 || has(self.applyOnForward) && self.applyOnForward || has(self.preDNAT) && self.preDNAT || has(self.doNotTrack) && self.doNotTrack)",message="stagedAction Delete stands for deleting the policy of this name: leave out everything but tier and stagedAction"
type StagedGlobalNetworkPolicySpec struct {
	// StagedAction is what the staged policy stands for: Set (create or replace the policy of this name), Delete (delete it),
	// Learn or Ignore.
	// +kubebuilder:default=Set
	// +optional
	StagedAction StagedAction `json:"stagedAction,omitempty"`

	GlobalNetworkPolicySpec `json:",inline"`
}

// StagedKubernetesNetworkPolicy is a NetworkPolicy of networking.k8s.io that is tried out: it counts what it would do and
// decides nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=stagedkubernetesnetworkpolicies,shortName={sknp}
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type StagedKubernetesNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StagedKubernetesNetworkPolicySpec `json:"spec"`
	Status PolicyStatus                      `json:"status,omitzero"`
}

// StagedKubernetesNetworkPolicyList is a list of StagedKubernetesNetworkPolicy.
//
// +kubebuilder:object:root=true
type StagedKubernetesNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StagedKubernetesNetworkPolicy `json:"items"`
}

// StagedKubernetesNetworkPolicySpec is the policy that is tried out.
//
// +kubebuilder:validation:XValidation:rule="!has(self.stagedAction) || self.stagedAction != 'Delete' || !(has(self.ingress) && size(self.ingress) > 0 || has(self.egress) && size(self.egress) > 0 || has(self.podSelector) && (has(self.podSelector.matchLabels) && size(self.podSelector.matchLabels) > 0 || has(self.podSelector.matchExpressions) && size(self.podSelector.matchExpressions) > 0) || has(self.policyTypes) && size(self.policyTypes) > 0)",message="stagedAction Delete stands for deleting the policy of this name: leave out everything but stagedAction"
type StagedKubernetesNetworkPolicySpec struct {
	// StagedAction is what the staged policy stands for: Set (create or replace the policy of this name), Delete (delete it),
	// Learn or Ignore.
	// +kubebuilder:default=Set
	// +optional
	StagedAction StagedAction `json:"stagedAction,omitempty"`

	// PodSelector picks the pods of the namespace that the policy applies to. All of them when empty.
	// +optional
	PodSelector metav1.LabelSelector `json:"podSelector,omitzero"`

	// Ingress rules: traffic to the selected pods that any of them matches is allowed.
	// +listType=atomic
	// +optional
	Ingress []networkingv1.NetworkPolicyIngressRule `json:"ingress,omitempty"`

	// Egress rules: traffic from the selected pods that any of them matches is allowed.
	// +listType=atomic
	// +optional
	Egress []networkingv1.NetworkPolicyEgressRule `json:"egress,omitempty"`

	// PolicyTypes are the directions that the policy applies to. When absent: Ingress, and Egress if there are egress rules.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	PolicyTypes []networkingv1.PolicyType `json:"policyTypes,omitempty"`
}
