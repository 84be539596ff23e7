package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GlobalNetworkPolicy decides the traffic of pods of any namespace and of host endpoints.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=globalnetworkpolicies,shortName={gnp,cgnp}
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Order",type=number,JSONPath=`.spec.order`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GlobalNetworkPolicySpec `json:"spec"`
	Status PolicyStatus            `json:"status,omitzero"`
}

// GlobalNetworkPolicyList is a list of GlobalNetworkPolicy.
//
// +kubebuilder:object:root=true
type GlobalNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GlobalNetworkPolicy `json:"items"`
}

// GlobalNetworkPolicySpec is what the user asks of a GlobalNetworkPolicy.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.preDNAT) && self.preDNAT && has(self.doNotTrack) && self.doNotTrack)",message="preDNAT and doNotTrack exclude each other: remove one"
// +kubebuilder:validation:XValidation:rule="!(has(self.preDNAT) && self.preDNAT) || (has(self.applyOnForward) && self.applyOnForward)",message="preDNAT needs applyOnForward: add applyOnForward true"
// +kubebuilder:validation:XValidation:rule="!(has(self.doNotTrack) && self.doNotTrack) || (has(self.applyOnForward) && self.applyOnForward)",message="doNotTrack needs applyOnForward: add applyOnForward true"
// +kubebuilder:validation:XValidation:rule="!(has(self.preDNAT) && self.preDNAT) || !(has(self.egress) && size(self.egress) > 0)",message="preDNAT has no egress: move the egress rules to a policy of their own"
// +kubebuilder:validation:XValidation:rule="!(has(self.preDNAT) && self.preDNAT) || !has(self.types) || !('Egress' in self.types)",message="preDNAT has no egress: remove Egress from types"
type GlobalNetworkPolicySpec struct {
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
	// +kubebuilder:validation:items:XValidation:rule="!has(self.source) || !has(self.source.services) || (has(self.source.services.namespace) && size(self.source.services.namespace) > 0)",message="source.services needs namespace in a global policy: add the namespace of the service"
	// +listType=atomic
	// +optional
	Ingress []Rule `json:"ingress,omitempty"`

	// Egress rules, tried in order for traffic from the selected endpoints.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:XValidation:rule="!has(self.http)",message="http is for ingress rules: move the rule to ingress or leave http out"
	// +kubebuilder:validation:items:XValidation:rule="!has(self.source) || !has(self.source.services)",message="source.services is for ingress rules: in an egress rule give destination.services"
	// +kubebuilder:validation:items:XValidation:rule="!has(self.destination) || !has(self.destination.services) || !(has(self.destination.ports) && size(self.destination.ports) > 0 || has(self.destination.notPorts) && size(self.destination.notPorts) > 0)",message="destination.services brings its own ports: remove ports and notPorts"
	// +kubebuilder:validation:items:XValidation:rule="!has(self.destination) || !has(self.destination.services) || (has(self.destination.services.namespace) && size(self.destination.services.namespace) > 0)",message="destination.services needs namespace in a global policy: add the namespace of the service"
	// +listType=atomic
	// +optional
	Egress []Rule `json:"egress,omitempty"`

	// Selector picks the endpoints that the policy applies to. All of them when empty.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// NamespaceSelector limits the policy to pods of matching namespaces. When absent the policy applies to host endpoints too;
	// all() means all pods and no host endpoint.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// ServiceAccountSelector limits the policy to pods whose service account has matching labels.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ServiceAccountSelector string `json:"serviceAccountSelector,omitempty"`

	// Types are the directions that the policy applies to. When absent: Egress if there are only egress rules, both if there
	// are rules of both kinds, else Ingress.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Types []PolicyType `json:"types,omitempty"`

	// DoNotTrack applies the policy to host endpoints before connection tracking. Traffic in both directions then needs its own rules.
	// Needs applyOnForward; excludes preDNAT.
	// +optional
	DoNotTrack bool `json:"doNotTrack,omitempty"`

	// PreDNAT applies the policy to host endpoints before a service's address is translated. Ingress only.
	// Needs applyOnForward; excludes doNotTrack.
	// +optional
	PreDNAT bool `json:"preDNAT,omitempty"`

	// ApplyOnForward applies the policy also to traffic that a host endpoint's node forwards, not only to the node's own.
	// +optional
	ApplyOnForward bool `json:"applyOnForward,omitempty"`

	// PerformanceHints tell how the policy is best put into effect; they never change what it means.
	// +listType=set
	// +optional
	PerformanceHints []PolicyPerformanceHint `json:"performanceHints,omitempty"`
}
