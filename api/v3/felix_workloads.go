package v3

// FelixWorkloads are settings for the traffic of pods.
type FelixWorkloads struct {
	// DefaultEndpointToHostAction decides traffic from pods to their own node that their egress policy allowed:
	// Drop, Accept, or Return (to the node's own rules). Drop when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Drop|Accept|Return)?$`
	// +optional
	DefaultEndpointToHostAction string `json:"defaultEndpointToHostAction,omitempty"`

	// AllowVXLANPacketsFromWorkloads lets pods send VXLAN packets. They are dropped when false or absent.
	// +optional
	AllowVXLANPacketsFromWorkloads *bool `json:"allowVXLANPacketsFromWorkloads,omitempty"`

	// AllowIPIPPacketsFromWorkloads lets pods send IPIP packets. They are dropped when false or absent.
	// +optional
	AllowIPIPPacketsFromWorkloads *bool `json:"allowIPIPPacketsFromWorkloads,omitempty"`
}
