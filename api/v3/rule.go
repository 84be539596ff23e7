package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// Action is what a rule does with a packet that it matches, or a tier with one that none of its rules decided.
type Action string

const (
	// Allow accepts the packet; no later rule or tier sees it.
	Allow Action = "Allow"
	// Deny drops the packet.
	Deny Action = "Deny"
	// Log writes the packet to the node's log and goes on with the next rule.
	Log Action = "Log"
	// Pass leaves the tier: the next tier decides.
	Pass Action = "Pass"
)

// Protocols that a rule can name. A rule can also give any other IP protocol by its number.
const (
	ProtocolTCP     = "TCP"
	ProtocolUDP     = "UDP"
	ProtocolICMP    = "ICMP"
	ProtocolICMPv6  = "ICMPv6"
	ProtocolSCTP    = "SCTP"
	ProtocolUDPLite = "UDPLite"
)

// Rule matches packets and says what happens to them. All the matches that a rule gives must hold.
//
// +kubebuilder:validation:XValidation:rule="!((has(self.source) && (has(self.source.ports) && size(self.source.ports) > 0 || has(self.source.notPorts) && size(self.source.notPorts) > 0)) || (has(self.destination) && (has(self.destination.ports) && size(self.destination.ports) > 0 || has(self.destination.notPorts) && size(self.destination.notPorts) > 0))) || has(self.protocol) && (type(self.protocol) == string && self.protocol in ['TCP', 'UDP', 'SCTP', 'tcp', 'udp', 'sctp', '6', '17', '132'] || type(self.protocol) == int && self.protocol in [6, 17, 132])",message="ports and notPorts need protocol TCP, UDP or SCTP: add protocol to the rule"
// +kubebuilder:validation:XValidation:rule="!(has(self.icmp) || has(self.notICMP)) || has(self.protocol) && (type(self.protocol) == string && self.protocol in ['ICMP', 'ICMPv6', 'icmp', 'icmpv6', '1', '58'] || type(self.protocol) == int && self.protocol in [1, 58])",message="icmp and notICMP need protocol ICMP or ICMPv6: add protocol to the rule"
// +kubebuilder:validation:XValidation:rule="!has(self.http) || (!has(self.protocol) || (type(self.protocol) == string && self.protocol in ['TCP', 'tcp', '6'] || type(self.protocol) == int && self.protocol == 6))",message="http needs protocol TCP: write TCP or leave protocol out"
// +kubebuilder:validation:XValidation:rule="!has(self.http) || self.action == 'Allow'",message="http needs action Allow: leave http out, or write the rule the other way round"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || self.ipVersion != 6 || !(has(self.protocol) && (type(self.protocol) == string && self.protocol in ['ICMP', 'icmp', '1'] || type(self.protocol) == int && self.protocol == 1))",message="protocol ICMP belongs to ipVersion 4: write ICMPv6 for ipVersion 6"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || self.ipVersion != 4 || !(has(self.protocol) && (type(self.protocol) == string && self.protocol in ['ICMPv6', 'icmpv6', '58'] || type(self.protocol) == int && self.protocol == 58))",message="protocol ICMPv6 belongs to ipVersion 6: write ICMP for ipVersion 4"
// +kubebuilder:validation:XValidation:rule="(!(has(self.source) && has(self.source.nets) && size(self.source.nets) > 0 && has(self.destination) && has(self.destination.nets) && size(self.destination.nets) > 0) || self.source.nets[0].contains(':') == self.destination.nets[0].contains(':')) && (!(has(self.source) && has(self.source.nets) && size(self.source.nets) > 0 && has(self.destination) && has(self.destination.notNets) && size(self.destination.notNets) > 0) || self.source.nets[0].contains(':') == self.destination.notNets[0].contains(':')) && (!(has(self.source) && has(self.source.notNets) && size(self.source.notNets) > 0 && has(self.destination) && has(self.destination.nets) && size(self.destination.nets) > 0) || self.source.notNets[0].contains(':') == self.destination.nets[0].contains(':')) && (!(has(self.source) && has(self.source.notNets) && size(self.source.notNets) > 0 && has(self.destination) && has(self.destination.notNets) && size(self.destination.notNets) > 0) || self.source.notNets[0].contains(':') == self.destination.notNets[0].contains(':'))",message="nets of source and destination must be of one family: write a rule for IPv4 and one for IPv6"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || (!(has(self.source) && has(self.source.nets) && size(self.source.nets) > 0) || self.source.nets[0].contains(':') == (self.ipVersion == 6)) && (!(has(self.source) && has(self.source.notNets) && size(self.source.notNets) > 0) || self.source.notNets[0].contains(':') == (self.ipVersion == 6)) && (!(has(self.destination) && has(self.destination.nets) && size(self.destination.nets) > 0) || self.destination.nets[0].contains(':') == (self.ipVersion == 6)) && (!(has(self.destination) && has(self.destination.notNets) && size(self.destination.notNets) > 0) || self.destination.notNets[0].contains(':') == (self.ipVersion == 6))",message="nets must be of the family of ipVersion: leave ipVersion out, or write a rule for each family"
type Rule struct {
	// Action for the packets that match: Allow, Deny, Log (write to the node's log and go on) or Pass (on to the next tier).
	// +kubebuilder:validation:Enum=Allow;Deny;Log;Pass
	Action Action `json:"action"`

	// IPVersion limits the rule to IPv4 (4) or IPv6 (6). Both when absent.
	// +kubebuilder:validation:Enum=4;6
	// +optional
	IPVersion *int `json:"ipVersion,omitempty"`

	// Protocol that the packet must have: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	// +optional
	Protocol *intstr.IntOrString `json:"protocol,omitempty"`

	// ICMP type and code that the packet must have. Needs protocol ICMP or ICMPv6.
	// +optional
	ICMP *ICMPFields `json:"icmp,omitempty"`

	// NotProtocol is a protocol that the packet must not have.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	// +optional
	NotProtocol *intstr.IntOrString `json:"notProtocol,omitempty"`

	// NotICMP is an ICMP type and code that the packet must not have. Needs protocol ICMP or ICMPv6.
	// +optional
	NotICMP *ICMPFields `json:"notICMP,omitempty"`

	// Source says where the packet must come from. From anywhere when empty.
	// +optional
	Source EntityRule `json:"source,omitzero"`

	// Destination says where the packet must go to. To anywhere when empty.
	// +optional
	Destination EntityRule `json:"destination,omitzero"`

	// HTTP limits the rule to requests that a proxy recognizes. Only in ingress rules that allow. Without a proxy that enforces
	// it the rule matches nothing.
	// +optional
	HTTP *HTTPMatch `json:"http,omitempty"`

	// Metadata goes with the rule and has no effect on packets.
	// +optional
	Metadata *RuleMetadata `json:"metadata,omitempty"`
}

// ICMPFields is a match on the type and code of an ICMP or ICMPv6 message.
//
// +kubebuilder:validation:XValidation:rule="!has(self.code) || has(self.type)",message="code needs type: add the type of the message"
type ICMPFields struct {
	// Type of the message, 8 for an IPv4 echo request.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=254
	// +optional
	Type *int `json:"type,omitempty"`

	// Code of the message. Needs a type.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	// +optional
	Code *int `json:"code,omitempty"`
}

// HTTPMatch is a match on the HTTP request. Methods and paths must both hold if both are given.
type HTTPMatch struct {
	// Methods of which the request must have one, such as GET. Any when empty.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Methods []string `json:"methods,omitempty"`

	// Paths of which the request must match one. Any when empty.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Paths []HTTPPath `json:"paths,omitempty"`
}

// HTTPPath is a match on the path of a request: either exact or by prefix.
//
// +kubebuilder:validation:XValidation:rule="(has(self.exact) && size(self.exact) > 0) != (has(self.prefix) && size(self.prefix) > 0)",message="must have exactly one of exact and prefix: write a path of its own for each"
type HTTPPath struct {
	// Exact is the whole path.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Exact string `json:"exact,omitempty"`

	// Prefix is what the path starts with.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Prefix string `json:"prefix,omitempty"`
}

// RuleMetadata is information about a rule.
type RuleMetadata struct {
	// Annotations of the rule.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}
