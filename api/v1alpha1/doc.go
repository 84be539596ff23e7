// Package v1alpha1 holds the rendered state of Manul: what the operator computed from the users' objects and the node
// agents put into effect. All kinds are cluster-scoped. The operator is the only writer of specs; an agent writes
// nothing but the status of the NodeState that bears its node's name. Users read these objects and never edit them.
//
// +kubebuilder:object:generate=true
// +groupName=manul.dev
package v1alpha1
