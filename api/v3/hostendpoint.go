package v3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// HostEndpoint is an interface of a node that policies can select.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=hostendpoints,shortName={hep,heps}
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interfaceName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HostEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HostEndpointSpec `json:"spec"`
}

// HostEndpointList is a list of HostEndpoint.
//
// +kubebuilder:object:root=true
type HostEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HostEndpoint `json:"items"`
}

// HostEndpointSpec is what the user asks of a HostEndpoint.
//
// +kubebuilder:validation:XValidation:rule="(has(self.interfaceName) && size(self.interfaceName) > 0) || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",message="interfaceName and expectedIPs are both missing: give the interface's name, or * for all interfaces of the node, or its addresses"
type HostEndpointSpec struct {
	// Node that the interface belongs to.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`

	// InterfaceName of the interface, * for all the interfaces of the node. When absent, expectedIPs find the interface.
	// +kubebuilder:validation:MaxLength=15
	// +optional
	InterfaceName string `json:"interfaceName,omitempty"`

	// ExpectedIPs are the addresses of the interface: they find it when interfaceName is absent, and rules of other
	// endpoints match them.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be an IP address such as 192.0.2.1, without a prefix length"
	// +listType=set
	// +optional
	ExpectedIPs []string `json:"expectedIPs,omitempty"`

	// Profiles to apply when no tier decides. Without any, such traffic is denied, failsafe ports and forwarded traffic apart.
	// +listType=set
	// +optional
	Profiles []string `json:"profiles,omitempty"`

	// Ports gives names to ports, for rules that name a port.
	// +listType=atomic
	// +optional
	Ports []EndpointPort `json:"ports,omitempty"`
}

// EndpointPort gives a name to a port of an endpoint.
type EndpointPort struct {
	// Name of the port.
	Name string `json:"name"`

	// Protocol of the port: TCP, UDP or SCTP.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	Protocol intstr.IntOrString `json:"protocol"`

	// Port number.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int `json:"port"`
}
