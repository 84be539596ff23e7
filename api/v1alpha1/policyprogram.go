package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PolicyProgram is one policy, compiled: its rules with peers as IDs of sets. It does not say to whom the policy
// applies (NodeState does) nor who is in a set (SetCatalog and NodeEndpoints do). Its name tells the policy:
// "gnp.<name>", "np.<namespace>.<name>", "knp.<namespace>.<name>" for GlobalNetworkPolicy, NetworkPolicy and the
// NetworkPolicy of networking.k8s.io; too long a name ends in a hash.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=policyprograms
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.policy.kind`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.policy.namespace`
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.spec.policy.name`
// +kubebuilder:printcolumn:name="Tier",type=string,JSONPath=`.spec.tier`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Enforced",type=string,JSONPath=`.status.enforced`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PolicyProgram struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PolicyProgramSpec   `json:"spec,omitempty"`
	Status PolicyProgramStatus `json:"status,omitempty"`
}

// PolicyProgramList is a list of PolicyProgram.
//
// +kubebuilder:object:root=true
type PolicyProgramList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicyProgram `json:"items"`
}

// PolicyProgramSpec holds the compiled rules.
type PolicyProgramSpec struct {
	// Policy that was compiled.
	Policy PolicyReference `json:"policy"`

	// Tier of the policy.
	Tier string `json:"tier"`

	// Ingress rules in order.
	// +listType=atomic
	// +optional
	Ingress []Rule `json:"ingress,omitempty"`

	// Egress rules in order.
	// +listType=atomic
	// +optional
	Egress []Rule `json:"egress,omitempty"`
}

// PolicyReference names a user's policy in one of its generations.
type PolicyReference struct {
	// Kind: "GlobalNetworkPolicy", "NetworkPolicy" (both of projectcalico.org), "KubernetesNetworkPolicy" (the NetworkPolicy of
	// networking.k8s.io), "ClusterNetworkPolicy", "AdminNetworkPolicy" or "BaselineAdminNetworkPolicy" (of policy.networking.k8s.io).
	Kind string `json:"kind"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// Generation of the policy that was compiled.
	// +optional
	Generation int64 `json:"generation,omitempty"`
}

// Action of a rule, or of the end of a tier.
type Action string

// The actions. Allow accepts, Deny drops, Pass leaves the tier, Log logs and goes on to the next rule.
const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
	Log   Action = "Log"
	Pass  Action = "Pass"
)

// Rule matches a packet when every field that is present does. A rule without matches matches every packet.
type Rule struct {
	// +kubebuilder:validation:Enum=Allow;Deny;Log;Pass
	Action Action `json:"action"`

	// IPVersion: 4 or 6. 0: both.
	// +optional
	IPVersion int32 `json:"ipVersion,omitempty"`

	// Protocol is an IANA protocol number, 1 to 255.
	// +optional
	Protocol *int32 `json:"protocol,omitempty"`
	// NotProtocol is an IANA protocol number that the packet must not have.
	// +optional
	NotProtocol *int32 `json:"notProtocol,omitempty"`

	// ICMP type and code (of ICMP or ICMPv6, as the protocol says).
	// +optional
	ICMP *ICMPMatch `json:"icmp,omitempty"`
	// NotICMP is a type and code that the packet must not have.
	// +optional
	NotICMP *ICMPMatch `json:"notICMP,omitempty"`

	// Source and Destination of the packet.
	// +optional
	Source EntityMatch `json:"source,omitempty"`
	// +optional
	Destination EntityMatch `json:"destination,omitempty"`
}

// ICMPMatch is an ICMP type with an optional code.
type ICMPMatch struct {
	// +optional
	Type *int32 `json:"type,omitempty"`
	// +optional
	Code *int32 `json:"code,omitempty"`
}

// EntityMatch is what a rule says of one end of a packet. All fields that are present must match.
type EntityMatch struct {
	// Sets are IDs of sets: the address must be in every one.
	// +listType=atomic
	// +optional
	Sets []string `json:"sets,omitempty"`
	// NotSets are IDs of sets: the address must be in none.
	// +listType=atomic
	// +optional
	NotSets []string `json:"notSets,omitempty"`

	// Nets are CIDRs: the address must be in one of them.
	// +listType=atomic
	// +optional
	Nets []string `json:"nets,omitempty"`
	// NotNets are CIDRs: the address must be in none of them.
	// +listType=atomic
	// +optional
	NotNets []string `json:"notNets,omitempty"`

	// Ports, NamedPorts and PortSets together: the port must be one of them. A named port matches a packet to (or from) an
	// address whose endpoint has a port of that name and the packet's protocol with that number. PortSets are IDs of sets of
	// ports: the packet's address, protocol and port are a member of one.
	// +listType=atomic
	// +optional
	Ports []PortRange `json:"ports,omitempty"`
	// +listType=atomic
	// +optional
	NamedPorts []string `json:"namedPorts,omitempty"`
	// +listType=atomic
	// +optional
	PortSets []string `json:"portSets,omitempty"`

	// NotPorts and NotNamedPorts together: the port must be none of them.
	// +listType=atomic
	// +optional
	NotPorts []PortRange `json:"notPorts,omitempty"`
	// +listType=atomic
	// +optional
	NotNamedPorts []string `json:"notNamedPorts,omitempty"`
}

// PortRange is a range of ports, both ends included.
type PortRange struct {
	First int32 `json:"first"`
	Last  int32 `json:"last"`
}

// PolicyProgramStatus says how far the policy is in force. The operator writes it.
type PolicyProgramStatus struct {
	// ObservedGeneration is the generation of this program that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// RenderedVersion is the resource version at which that generation was written. A node has this generation in
	// effect once it acknowledges a PolicyProgram version at least as high.
	// +optional
	RenderedVersion string `json:"renderedVersion,omitempty"`

	// Enforced reads "<nodes that enforce the policy>/<nodes that must>".
	// +optional
	Enforced string `json:"enforced,omitempty"`

	// Conditions: Accepted, Enforced.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
