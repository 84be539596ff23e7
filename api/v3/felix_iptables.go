package v3

// FelixIptables are settings for the dataplane iptables.
type FelixIptables struct {
	// ChainInsertMode Insert puts the jumps into the kernel's chains first, Append last. Insert when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Insert|Append)?$`
	// +optional
	ChainInsertMode string `json:"chainInsertMode,omitempty"`

	// IptablesBackend says which iptables to use: Legacy, NFT or Auto (the one that has rules). Auto when absent.
	// +kubebuilder:validation:Enum=Legacy;NFT;Auto
	// +kubebuilder:validation:Pattern=`^(?i)(Auto|Legacy|NFT)?$`
	// +optional
	IptablesBackend string `json:"iptablesBackend,omitempty"`

	// IptablesFilterAllowAction says what becomes of forwarded traffic that policy allows: Accept, or Return (to rules
	// that follow). Accept when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Accept|Return)?$`
	// +optional
	IptablesFilterAllowAction string `json:"iptablesFilterAllowAction,omitempty"`

	// IptablesFilterDenyAction says what becomes of traffic that policy denies: Drop or Reject. Drop when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Drop|Reject)?$`
	// +optional
	IptablesFilterDenyAction string `json:"iptablesFilterDenyAction,omitempty"`

	// IptablesMangleAllowAction says what becomes of traffic that preDNAT policy allows: Accept or Return. Accept when
	// absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Accept|Return)?$`
	// +optional
	IptablesMangleAllowAction string `json:"iptablesMangleAllowAction,omitempty"`

	// IptablesMarkMask are the bits of the packet mark that the node agent may use. 0xffff0000 when absent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	IptablesMarkMask *int64 `json:"iptablesMarkMask,omitempty"`

	// IptablesNATOutgoingInterfaceFilter limits natOutgoing to packets that leave by this interface.
	// +optional
	IptablesNATOutgoingInterfaceFilter string `json:"iptablesNATOutgoingInterfaceFilter,omitempty"`

	// IptablesLockProbeInterval is taken from manifests that give it; the programs wait for the lock themselves.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	IptablesLockProbeInterval *Duration `json:"iptablesLockProbeInterval,omitempty"`

	// IptablesPostWriteCheckInterval is the time after a change at which the rules are compared with the kernel again.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	IptablesPostWriteCheckInterval *Duration `json:"iptablesPostWriteCheckInterval,omitempty"`

	// IptablesRefreshInterval is the time between full comparisons of rules with the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	IptablesRefreshInterval *Duration `json:"iptablesRefreshInterval,omitempty"`

	// IPSetsRefreshInterval is the time between full comparisons of sets with the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	IPSetsRefreshInterval *Duration `json:"ipsetsRefreshInterval,omitempty"`

	// MaxIPSetSize is the greatest number of members of a set. 1048576 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	MaxIPSetSize *int `json:"maxIpsetSize,omitempty"`

	// FeatureDetectOverride forces features of the kernel or of iptables on or off: name=true or name=false, separated by
	// commas.
	// +optional
	FeatureDetectOverride string `json:"featureDetectOverride,omitempty"`

	// FeatureGates turns features of the node agent on or off: name=Enabled or name=Disabled, separated by commas.
	// +optional
	FeatureGates string `json:"featureGates,omitempty"`

	// GenericXDPEnabled drops traffic of doNotTrack policies by XDP even where the driver has no support of its own.
	// +optional
	GenericXDPEnabled *bool `json:"genericXDPEnabled,omitempty"`

	// XDPEnabled drops traffic of doNotTrack policies by XDP where the driver supports it.
	// +optional
	XDPEnabled *bool `json:"xdpEnabled,omitempty"`

	// XDPRefreshInterval is the time between full comparisons of XDP programs with the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	XDPRefreshInterval *Duration `json:"xdpRefreshInterval,omitempty"`
}
