package v3

// FelixNftables are settings for the dataplane nftables, and which dataplane runs.
type FelixNftables struct {
	// NftablesMode says whether the dataplane is nftables: Enabled, Disabled (then it is iptables) or Auto (as kube-proxy
	// has it).
	// +kubebuilder:validation:Enum=Disabled;Enabled;Auto
	// +kubebuilder:default=Auto
	// +optional
	NftablesMode string `json:"nftablesMode,omitempty"`

	// NftablesFilterAllowAction says what becomes of forwarded traffic that policy allows: Accept, or Return (to rules
	// that follow). Accept when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Accept|Return)?$`
	// +optional
	NftablesFilterAllowAction string `json:"nftablesFilterAllowAction,omitempty"`

	// NftablesFilterDenyAction says what becomes of traffic that policy denies: Drop or Reject. Drop when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Drop|Reject)?$`
	// +optional
	NftablesFilterDenyAction string `json:"nftablesFilterDenyAction,omitempty"`

	// NftablesMangleAllowAction says what becomes of traffic that preDNAT policy allows: Accept or Return. Accept when
	// absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Accept|Return)?$`
	// +optional
	NftablesMangleAllowAction string `json:"nftablesMangleAllowAction,omitempty"`

	// NftablesMarkMask are the bits of the packet mark that the node agent may use. 0xffff0000 when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	NftablesMarkMask *int64 `json:"nftablesMarkMask,omitempty"`

	// NftablesRefreshInterval is the time between full comparisons of rules with the kernel.
	// +optional
	NftablesRefreshInterval *Duration `json:"nftablesRefreshInterval,omitempty"`

	// NftablesFlowTableOffload All takes established connections past the rules by a flow table.
	// +kubebuilder:validation:Enum=All;Disabled
	// +kubebuilder:default=Disabled
	// +optional
	NftablesFlowTableOffload string `json:"nftablesFlowTableOffload,omitempty"`

	// NftablesFlowTableDataIfacePattern is a regular expression for the node's interfaces of the flow table.
	// +optional
	NftablesFlowTableDataIfacePattern string `json:"nftablesFlowTableDataIfacePattern,omitempty"`

	// DataplaneDriver is taken from manifests that give it; the node agent has its dataplanes built in.
	// +optional
	DataplaneDriver string `json:"dataplaneDriver,omitempty"`

	// UseInternalDataplaneDriver is taken from manifests that give it; the node agent has its dataplanes built in.
	// +optional
	UseInternalDataplaneDriver *bool `json:"useInternalDataplaneDriver,omitempty"`

	// DataplaneWatchdogTimeout is the time without progress of the dataplane after which the node agent says that it is
	// not healthy.
	// +optional
	DataplaneWatchdogTimeout *Duration `json:"dataplaneWatchdogTimeout,omitempty"`
}
