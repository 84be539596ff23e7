package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// EntityRule matches one end of a packet's path. All that it gives must hold; when empty, any address matches, those
// outside the cluster included.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nets) || self.nets.filter(n, n.contains(':')).size() in [0, self.nets.size()]",message="nets must be of one family: write a rule for IPv4 and one for IPv6"
// +kubebuilder:validation:XValidation:rule="!has(self.notNets) || self.notNets.filter(n, n.contains(':')).size() in [0, self.notNets.size()]",message="notNets must be of one family: write a rule for IPv4 and one for IPv6"
// +kubebuilder:validation:XValidation:rule="!(has(self.nets) && size(self.nets) > 0 && has(self.notNets) && size(self.notNets) > 0) || self.nets[0].contains(':') == self.notNets[0].contains(':')",message="nets and notNets must be of one family: write a rule for IPv4 and one for IPv6"
// +kubebuilder:validation:XValidation:rule="!has(self.services) || !((has(self.nets) && size(self.nets) > 0) || (has(self.notNets) && size(self.notNets) > 0) || (has(self.selector) && size(self.selector) > 0) || (has(self.notSelector) && size(self.notSelector) > 0) || (has(self.namespaceSelector) && size(self.namespaceSelector) > 0) || has(self.serviceAccounts))",message="services excludes nets, notNets, selector, notSelector, namespaceSelector and serviceAccounts: write a rule of its own for them"
type EntityRule struct {
	// Nets are CIDRs of which one must contain the address. An address stands for itself.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=49
	// +listType=set
	// +optional
	Nets []string `json:"nets,omitempty"`

	// Selector picks endpoints and network sets by label, such as app == 'web'. In a namespaced policy it sees only the policy's
	// namespace unless namespaceSelector is given.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// NamespaceSelector picks the namespaces in which selector, notSelector and serviceAccounts look. global() stands for
	// endpoints and sets without a namespace.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// Services matches the ready endpoints of a service. Only as the source of an ingress rule or the destination of an egress rule.
	// +optional
	Services *ServiceMatch `json:"services,omitempty"`

	// Ports of which one must be the packet's: a number, a range such as "8000:8080", or the name of a port.
	// Needs protocol TCP, UDP or SCTP.
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:Pattern=`^.*`
	// +listType=atomic
	// +optional
	Ports []intstr.IntOrString `json:"ports,omitempty"`

	// NotNets are CIDRs of which none may contain the address. An address stands for itself.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="!(self in ['0.0.0.0/0', '::/0'])",message="must not be all addresses: the rule would match nothing; leave it out"
	// +listType=set
	// +optional
	NotNets []string `json:"notNets,omitempty"`

	// NotSelector picks endpoints and network sets that do not match.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NotSelector string `json:"notSelector,omitempty"`

	// NotPorts are ports that the packet must not have, written as in ports. Needs protocol TCP, UDP or SCTP.
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:Pattern=`^.*`
	// +listType=atomic
	// +optional
	NotPorts []intstr.IntOrString `json:"notPorts,omitempty"`

	// ServiceAccounts matches pods by the service account that they run as.
	// +optional
	ServiceAccounts *ServiceAccountMatch `json:"serviceAccounts,omitempty"`
}

// ServiceMatch names a service whose endpoints match.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="name is missing: give the name of the service"
type ServiceMatch struct {
	// Name of the service.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// Namespace of the service. The policy's own when absent; a global policy must give it.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccountMatch matches service accounts by name and by label; both must hold if both are given.
type ServiceAccountMatch struct {
	// Names of which one must be the account's. Any when empty.
	// +listType=set
	// +optional
	Names []string `json:"names,omitempty"`

	// Selector that the labels of the account must match.
	// +optional
	Selector string `json:"selector,omitempty"`
}
