package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// FelixBPF are settings for a BPF dataplane. They are taken from manifests that give them; the dataplanes here are iptables and nftables, so that they have no effect, and bpfEnabled true is reported.
type FelixBPF struct {
	// BPFEnabled asks for the BPF dataplane.
	// +optional
	BPFEnabled *bool `json:"bpfEnabled,omitempty"`

	// BPFDisableUnprivileged forbids BPF to processes without privileges.
	// +optional
	BPFDisableUnprivileged *bool `json:"bpfDisableUnprivileged,omitempty"`

	// BPFLogLevel is the level of the programs' log: Off, Info or Debug.
	// +kubebuilder:validation:Pattern=`^(?i)(Off|Info|Debug)?$`
	// +optional
	BPFLogLevel string `json:"bpfLogLevel,omitempty"`

	// BPFLogFilters are filters of the programs' log, for each interface or "all", in the language of pcap.
	// +optional
	BPFLogFilters map[string]string `json:"bpfLogFilters,omitempty"`

	// BPFCTLBLogFilter limits the log of the connect-time load balancer.
	// +optional
	BPFCTLBLogFilter string `json:"bpfCTLBLogFilter,omitempty"`

	// BPFDataIfacePattern is a regular expression for the node's interfaces that get programs.
	// +optional
	BPFDataIfacePattern string `json:"bpfDataIfacePattern,omitempty"`

	// BPFL3IfacePattern is a regular expression for interfaces without a link layer.
	// +optional
	BPFL3IfacePattern string `json:"bpfL3IfacePattern,omitempty"`

	// BPFDisableGROForIfaces is a regular expression for interfaces whose receive offload is turned off.
	// +optional
	BPFDisableGROForIfaces string `json:"bpfDisableGROForIfaces,omitempty"`

	// BPFAttachType says how programs are attached: TC, TCX or Netkit.
	// +kubebuilder:validation:Enum=TC;TCX;Netkit
	// +optional
	BPFAttachType string `json:"bpfAttachType,omitempty"`

	// BPFConnectTimeLoadBalancingEnabled turns load balancing at connect time on. Prefer bpfConnectTimeLoadBalancing.
	// +optional
	BPFConnectTimeLoadBalancingEnabled *bool `json:"bpfConnectTimeLoadBalancingEnabled,omitempty"`

	// BPFConnectTimeLoadBalancing says for what protocols service addresses are translated at connect time.
	// +kubebuilder:validation:Enum=TCP;Enabled;Disabled
	// +optional
	BPFConnectTimeLoadBalancing string `json:"bpfConnectTimeLoadBalancing,omitempty"`

	// BPFHostNetworkedNATWithoutCTLB translates service addresses for host-networked pods without connect-time load
	// balancing.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	BPFHostNetworkedNATWithoutCTLB string `json:"bpfHostNetworkedNATWithoutCTLB,omitempty"`

	// BPFExternalServiceMode says how packets to node ports get to other nodes: Tunnel or DSR (the answer goes back
	// directly).
	// +kubebuilder:validation:Pattern=`^(?i)(Tunnel|DSR)?$`
	// +optional
	BPFExternalServiceMode string `json:"bpfExternalServiceMode,omitempty"`

	// BPFDSROptoutCIDRs are clients that get no direct answers.
	// +optional
	BPFDSROptoutCIDRs []string `json:"bpfDSROptoutCIDRs,omitzero"`

	// BPFExtToServiceConnmark is a connection mark for traffic from outside to services.
	// +optional
	BPFExtToServiceConnmark *int `json:"bpfExtToServiceConnmark,omitempty"`

	// BPFEnforceRPF says how strictly source addresses of received packets are checked: Disabled, Strict or Loose.
	// +kubebuilder:validation:Pattern=`^(?i)(Disabled|Strict|Loose)?$`
	// +optional
	BPFEnforceRPF string `json:"bpfEnforceRPF,omitempty"`

	// BPFExcludeCIDRsFromNAT are service addresses that are left alone.
	// +optional
	BPFExcludeCIDRsFromNAT []string `json:"bpfExcludeCIDRsFromNAT,omitzero"`

	// BPFExportBufferSizeMB is the size of the buffer of events in MB.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFExportBufferSizeMB *int `json:"bpfExportBufferSizeMB,omitempty"`

	// BPFForceTrackPacketsFromIfaces are interfaces whose packets go through the kernel's connection tracking.
	// +optional
	BPFForceTrackPacketsFromIfaces []string `json:"bpfForceTrackPacketsFromIfaces,omitzero"`

	// BPFHostConntrackBypass takes forwarded packets past the kernel's connection tracking.
	// +optional
	BPFHostConntrackBypass *bool `json:"bpfHostConntrackBypass,omitempty"`

	// BPFIPFragTimeout is how long fragments of a packet are waited for.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	BPFIPFragTimeout *Duration `json:"bpfIPFragTimeout,omitempty"`

	// BPFIPFragmentReassemblyEnabled puts fragments together before policy sees them.
	// +optional
	BPFIPFragmentReassemblyEnabled *bool `json:"bpfIPFragmentReassemblyEnabled,omitempty"`

	// BPFJITHardening says how the kernel hardens programs: Auto or Strict.
	// +kubebuilder:validation:Enum=Auto;Strict
	// +optional
	BPFJITHardening string `json:"bpfJITHardening,omitempty"`

	// BPFKubeProxyHealthzPort is the port of kube-proxy's health.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	BPFKubeProxyHealthzPort *int `json:"bpfKubeProxyHealthzPort,omitempty"`

	// BPFKubeProxyIptablesCleanupEnabled removes the rules of kube-proxy.
	// +optional
	BPFKubeProxyIptablesCleanupEnabled *bool `json:"bpfKubeProxyIptablesCleanupEnabled,omitempty"`

	// BPFKubeProxyMinSyncPeriod is the least time between changes of services.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	BPFKubeProxyMinSyncPeriod *Duration `json:"bpfKubeProxyMinSyncPeriod,omitempty"`

	// BPFMaglevMaxEndpointsPerService bounds the endpoints of a service with consistent hashing.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMaglevMaxEndpointsPerService *int `json:"bpfMaglevMaxEndpointsPerService,omitempty"`

	// BPFMaglevMaxServices bounds the services with consistent hashing.
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="must not be negative"
	// +optional
	BPFMaglevMaxServices *int `json:"bpfMaglevMaxServices,omitempty"`

	// BPFOverlayHostSourceIP says from which address a node sends into the overlay: TunnelAddress or HostAddress.
	// +kubebuilder:validation:Enum=TunnelAddress;HostAddress
	// +optional
	BPFOverlayHostSourceIP string `json:"bpfOverlayHostSourceIP,omitempty"`

	// BPFPSNATPorts is the range of source ports for conflicts between connections.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	// +optional
	BPFPSNATPorts *intstr.IntOrString `json:"bpfPSNATPorts,omitempty"`

	// BPFPolicyDebugEnabled keeps information that explains policy programs.
	// +optional
	BPFPolicyDebugEnabled *bool `json:"bpfPolicyDebugEnabled,omitempty"`

	// BPFProfiling measures how long programs run.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	BPFProfiling string `json:"bpfProfiling,omitempty"`

	// BPFRedirectToPeer hands packets directly to the pod's side of its interface.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	BPFRedirectToPeer string `json:"bpfRedirectToPeer,omitempty"`

	// CgroupV2Path is where the cgroup tree is mounted.
	// +optional
	CgroupV2Path string `json:"cgroupV2Path,omitempty"`
}
