package v3

// FelixTunnels are settings for VXLAN and IPIP between nodes.
type FelixTunnels struct {
	// IPIPEnabled forces the IPIP device on or off. When absent it follows the pools.
	// +optional
	IPIPEnabled *bool `json:"ipipEnabled,omitempty"`

	// IPIPMTU is the MTU of the IPIP device in bytes. Found out when 0 or absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be an MTU in bytes from 0 to 65535; 0 finds it out"
	// +optional
	IPIPMTU *int `json:"ipipMTU,omitempty"`

	// VXLANEnabled forces the VXLAN device on or off. When absent it follows the pools.
	// +optional
	VXLANEnabled *bool `json:"vxlanEnabled,omitempty"`

	// VXLANMTU is the MTU of the IPv4 VXLAN device in bytes. Found out when 0 or absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be an MTU in bytes from 0 to 65535; 0 finds it out"
	// +optional
	VXLANMTU *int `json:"vxlanMTU,omitempty"`

	// VXLANMTUV6 is the MTU of the IPv6 VXLAN device in bytes. Found out when 0 or absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be an MTU in bytes from 0 to 65535; 0 finds it out"
	// +optional
	VXLANMTUV6 *int `json:"vxlanMTUV6,omitempty"`

	// VXLANPort is the UDP port of VXLAN. 4789 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	VXLANPort *int `json:"vxlanPort,omitempty"`

	// VXLANVNI is the VXLAN network identifier. 4096 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 16777215",message="must be from 1 to 16777215"
	// +optional
	VXLANVNI *int `json:"vxlanVNI,omitempty"`

	// ExternalNodesList are addresses of hosts outside the cluster that may send IPIP and VXLAN packets to the nodes.
	// +optional
	ExternalNodesList []string `json:"externalNodesList,omitzero"`

	// MTUIfacePattern is a regular expression for the interfaces whose MTU limits that of pods and tunnels.
	// +optional
	MTUIfacePattern string `json:"mtuIfacePattern,omitempty"`

	// RequireMTUFile keeps the node agent from becoming ready without the file that tells the CNI plugin the MTU.
	// +optional
	RequireMTUFile *bool `json:"requireMTUFile,omitempty"`
}
