package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PolicyType is a direction in which a policy applies.
//
// +kubebuilder:validation:Enum=Ingress;Egress
type PolicyType string

const (
	// PolicyTypeIngress is traffic to the endpoints that the policy selects.
	PolicyTypeIngress PolicyType = "Ingress"
	// PolicyTypeEgress is traffic from the endpoints that the policy selects.
	PolicyTypeEgress PolicyType = "Egress"
)

// PolicyPerformanceHint tells how a policy is best put into effect. It never changes what the policy means.
//
// +kubebuilder:validation:Enum=AssumeNeededOnEveryNode
type PolicyPerformanceHint string

// PerfHintAssumeNeededOnEveryNode says that every node will have endpoints that the policy selects. It is accepted and has no
// effect: all nodes know all compiled policies ahead of need, and put those into the kernel that their endpoints need.
const PerfHintAssumeNeededOnEveryNode PolicyPerformanceHint = "AssumeNeededOnEveryNode"

// Conditions of a policy's status.
const (
	// ConditionAccepted says that the object is valid and was compiled.
	ConditionAccepted = "Accepted"
	// ConditionEnforced says that every node that must enforce the policy does.
	ConditionEnforced = "Enforced"
	// ConditionDegraded says that some node reports why it can't enforce the policy.
	ConditionDegraded = "Degraded"
)

// PolicyStatus is what became of a policy.
type PolicyStatus struct {
	// Enforced counts the nodes that enforce the policy and the nodes that must, such as "2/2".
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Enforced string `json:"enforced,omitempty"`

	// Conditions: Accepted (valid and compiled; else the message names the field and the fix), Enforced (in effect on every
	// node that needs it) and Degraded (some node reports why it can't enforce it).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
