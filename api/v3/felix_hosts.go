package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// FelixHosts are settings for the nodes themselves: host endpoints and what never cuts them off.
type FelixHosts struct {
	// FailsafeInboundHostPorts are ports of the node that stay open whatever policies say. When absent: TCP 22, 179,
	// 2379, 2380, 5473, 6443, 6666, 6667 and UDP 68; an empty list opens none.
	// +optional
	FailsafeInboundHostPorts []ProtoPort `json:"failsafeInboundHostPorts,omitzero"`

	// FailsafeOutboundHostPorts are ports that the node can always reach. When absent: TCP 179, 2379, 2380, 5473, 6443,
	// 6666, 6667 and UDP 53, 67; an empty list opens none.
	// +optional
	FailsafeOutboundHostPorts []ProtoPort `json:"failsafeOutboundHostPorts,omitzero"`

	// NodeSelector limits the object to matching nodes.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// KubeNodePortRanges are the ranges of node ports, which policies with preDNAT see. 30000:32767 when absent.
	// +kubebuilder:validation:items:XIntOrString
	// +kubebuilder:validation:items:Pattern=`^.*`
	// +kubebuilder:validation:MaxItems=7
	// +optional
	KubeNodePortRanges []intstr.IntOrString `json:"kubeNodePortRanges,omitzero"`

	// DisableConntrackInvalidCheck lets packets through that connection tracking calls invalid.
	// +optional
	DisableConntrackInvalidCheck *bool `json:"disableConntrackInvalidCheck,omitempty"`

	// WindowsManageFirewallRules is taken from manifests that give it; it concerns Windows nodes.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	WindowsManageFirewallRules string `json:"windowsManageFirewallRules,omitempty"`

	// MetadataAddr is taken from manifests that give it; it concerns OpenStack.
	// +optional
	MetadataAddr string `json:"metadataAddr,omitempty"`

	// MetadataPort is taken from manifests that give it; it concerns OpenStack.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	MetadataPort *int `json:"metadataPort,omitempty"`

	// OpenstackRegion is taken from manifests that give it; it concerns OpenStack.
	// +optional
	OpenstackRegion string `json:"openstackRegion,omitempty"`
}

// ProtoPort is a port of the failsafe lists.
type ProtoPort struct {
	// Protocol of the port: TCP or UDP. TCP when absent.
	// +optional
	Protocol string `json:"protocol,omitempty"`

	// Port number.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	Port int `json:"port"`

	// Net limits the entry to peers inside this CIDR. All when absent.
	// +optional
	Net string `json:"net,omitempty"`
}
