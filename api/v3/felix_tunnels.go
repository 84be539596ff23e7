package v3

// FelixTunnels are settings for VXLAN and IPIP between nodes.
type FelixTunnels struct {
	// IPIPEnabled forces the IPIP device on or off. When absent it follows the pools.
	// +optional
	IPIPEnabled *bool `json:"ipipEnabled,omitempty"`

	// IPIPMTU is the MTU of the IPIP device in bytes. 0 finds it out.
	// +optional
	IPIPMTU *int `json:"ipipMTU,omitempty"`

	// VXLANEnabled forces the VXLAN device on or off. When absent it follows the pools.
	// +optional
	VXLANEnabled *bool `json:"vxlanEnabled,omitempty"`

	// VXLANMTU is the MTU of the IPv4 VXLAN device in bytes. 0 finds it out.
	// +optional
	VXLANMTU *int `json:"vxlanMTU,omitempty"`

	// VXLANMTUV6 is the MTU of the IPv6 VXLAN device in bytes. 0 finds it out.
	// +optional
	VXLANMTUV6 *int `json:"vxlanMTUV6,omitempty"`

	// VXLANPort is the UDP port of VXLAN. 4789 when absent.
	// +optional
	VXLANPort *int `json:"vxlanPort,omitempty"`

	// VXLANVNI is the VXLAN network identifier. 4096 when absent.
	// +optional
	VXLANVNI *int `json:"vxlanVNI,omitempty"`
}
