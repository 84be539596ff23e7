package v3

// FelixWireguard are settings for the encryption of traffic between nodes with WireGuard.
type FelixWireguard struct {
	// WireguardEnabled encrypts IPv4 traffic between nodes. False when absent.
	// +optional
	WireguardEnabled *bool `json:"wireguardEnabled,omitempty"`

	// WireguardEnabledV6 encrypts IPv6 traffic between nodes. False when absent.
	// +optional
	WireguardEnabledV6 *bool `json:"wireguardEnabledV6,omitempty"`

	// WireguardHostEncryptionEnabled encrypts traffic between the nodes themselves too.
	// +optional
	WireguardHostEncryptionEnabled *bool `json:"wireguardHostEncryptionEnabled,omitempty"`

	// WireguardInterfaceName is the name of the IPv4 interface. wireguard.cali when absent.
	// +optional
	WireguardInterfaceName string `json:"wireguardInterfaceName,omitempty"`

	// WireguardInterfaceNameV6 is the name of the IPv6 interface. wg-v6.cali when absent.
	// +optional
	WireguardInterfaceNameV6 string `json:"wireguardInterfaceNameV6,omitempty"`

	// WireguardKeepAlive is the time between packets that keep NAT mappings open. Off when 0 or absent.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	WireguardKeepAlive *Duration `json:"wireguardKeepAlive,omitempty"`

	// WireguardListeningPort is the UDP port for IPv4. 51820 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	WireguardListeningPort *int `json:"wireguardListeningPort,omitempty"`

	// WireguardListeningPortV6 is the UDP port for IPv6. 51821 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	WireguardListeningPortV6 *int `json:"wireguardListeningPortV6,omitempty"`

	// WireguardMTU is the MTU of the IPv4 interface in bytes. Found out when 0 or absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be an MTU in bytes from 0 to 65535; 0 finds it out"
	// +optional
	WireguardMTU *int `json:"wireguardMTU,omitempty"`

	// WireguardMTUV6 is the MTU of the IPv6 interface in bytes. Found out when 0 or absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be an MTU in bytes from 0 to 65535; 0 finds it out"
	// +optional
	WireguardMTUV6 *int `json:"wireguardMTUV6,omitempty"`

	// WireguardRoutingRulePriority is the priority of the routing rule that leads to the interface. 99 when absent.
	// +optional
	WireguardRoutingRulePriority *int `json:"wireguardRoutingRulePriority,omitempty"`

	// WireguardThreadingEnabled has the kernel decrypt in threads of its own.
	// +optional
	WireguardThreadingEnabled *bool `json:"wireguardThreadingEnabled,omitempty"`

	// PrometheusWireGuardMetricsEnabled serves metrics of WireGuard. True when absent.
	// +optional
	PrometheusWireGuardMetricsEnabled *bool `json:"prometheusWireGuardMetricsEnabled,omitempty"`
}
