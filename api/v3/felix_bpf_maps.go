package v3

// FelixBPFMaps are settings for the maps and for the connection tracking of a BPF dataplane. They are taken from manifests that give them and have no effect here.
type FelixBPFMaps struct {
	// BPFMapSizeConntrack is the size of the map of connections.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeConntrack *int `json:"bpfMapSizeConntrack,omitempty"`

	// BPFMapSizePerCPUConntrack is the size of the map of connections for each CPU.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizePerCPUConntrack *int `json:"bpfMapSizePerCpuConntrack,omitempty"`

	// BPFMapSizeConntrackCleanupQueue is the size of the queue of connections to remove.
	// +kubebuilder:validation:Minimum=1
	// +optional
	BPFMapSizeConntrackCleanupQueue *int `json:"bpfMapSizeConntrackCleanupQueue,omitempty"`

	// BPFMapSizeConntrackScaling says whether the map of connections grows: Disabled or DoubleIfFull.
	// +kubebuilder:validation:Pattern=`^(?i)(Disabled|DoubleIfFull)?$`
	// +optional
	BPFMapSizeConntrackScaling string `json:"bpfMapSizeConntrackScaling,omitempty"`

	// BPFMapSizeIPSets is the size of the map of set members.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeIPSets *int `json:"bpfMapSizeIPSets,omitempty"`

	// BPFMapSizeIfState is the size of the map of interfaces.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeIfState *int `json:"bpfMapSizeIfState,omitempty"`

	// BPFMapSizeNATAffinity is the size of the map of session affinity.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeNATAffinity *int `json:"bpfMapSizeNATAffinity,omitempty"`

	// BPFMapSizeNATBackend is the size of the map of endpoints of services.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeNATBackend *int `json:"bpfMapSizeNATBackend,omitempty"`

	// BPFMapSizeNATFrontend is the size of the map of services.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeNATFrontend *int `json:"bpfMapSizeNATFrontend,omitempty"`

	// BPFMapSizeRoute is the size of the map of routes.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMapSizeRoute *int `json:"bpfMapSizeRoute,omitempty"`

	// BPFConntrackLogLevel is the level of the log of connection cleanup: Off or Debug.
	// +kubebuilder:validation:Enum=Off;Debug
	// +optional
	BPFConntrackLogLevel string `json:"bpfConntrackLogLevel,omitempty"`

	// BPFConntrackMode says what removes connections that are over: Auto, Userspace or BPFProgram.
	// +kubebuilder:validation:Enum=Auto;Userspace;BPFProgram
	// +optional
	BPFConntrackMode string `json:"bpfConntrackMode,omitempty"`

	// BPFConntrackTimeouts are the times after which connections are forgotten.
	// +optional
	BPFConntrackTimeouts *BPFConntrackTimeouts `json:"bpfConntrackTimeouts,omitempty"`
}

// BPFConntrackTimeouts are the times after which a BPF dataplane forgets connections: a duration, or Auto to take the kernel's.
type BPFConntrackTimeouts struct {
	// CreationGracePeriod is how long a new connection is kept at least.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	CreationGracePeriod *string `json:"creationGracePeriod,omitempty"`

	// TCPSynSent is for connections that are being opened.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	TCPSynSent *string `json:"tcpSynSent,omitempty"`

	// TCPEstablished is for connections that are open and idle.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	TCPEstablished *string `json:"tcpEstablished,omitempty"`

	// TCPFinsSeen is for connections that both sides have closed.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	TCPFinsSeen *string `json:"tcpFinsSeen,omitempty"`

	// TCPResetSeen is for connections that one side has reset.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	TCPResetSeen *string `json:"tcpResetSeen,omitempty"`

	// UDPTimeout is for UDP.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	UDPTimeout *string `json:"udpTimeout,omitempty"`

	// GenericTimeout is for other protocols.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	GenericTimeout *string `json:"genericTimeout,omitempty"`

	// ICMPTimeout is for ICMP.
	// +kubebuilder:validation:Pattern=`^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$`
	// +optional
	ICMPTimeout *string `json:"icmpTimeout,omitempty"`
}
