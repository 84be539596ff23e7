package v3

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ASNumber is the number of an autonomous system (RFC 6793): 1 to 4294967295. The published schema has format int32, which
// makes the API server refuse the upper half, private numbers from 4200000000 among them.
//
// +kubebuilder:validation:Format=int64
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=4294967295
type ASNumber uint32

// BGPPassword is a password of a BGP session (RFC 2385).
type BGPPassword struct {
	// SecretKeyRef names the key of a secret in the operator's namespace that holds the password.
	// +optional
	SecretKeyRef *corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// BGPStatus is what became of a BGP object.
type BGPStatus struct {
	// Conditions: Accepted (valid, and what it refers to exists; else the message names the field and the fix).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
