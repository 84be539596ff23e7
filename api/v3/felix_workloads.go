package v3

import "k8s.io/apimachinery/pkg/util/intstr"

// FelixWorkloads are settings for the traffic of pods.
type FelixWorkloads struct {
	// DefaultEndpointToHostAction decides traffic from pods to their own node that their egress policy allowed: Drop,
	// Accept, or Return (to the node's own rules). Drop when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Drop|Accept|Return)?$`
	// +optional
	DefaultEndpointToHostAction string `json:"defaultEndpointToHostAction,omitempty"`

	// WorkloadSourceSpoofing Any lets pods with the annotation cni.projectcalico.org/allowedSourcePrefixes send from
	// those prefixes too. Disabled when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Disabled|Any)?$`
	// +optional
	WorkloadSourceSpoofing string `json:"workloadSourceSpoofing,omitempty"`

	// AllowVXLANPacketsFromWorkloads lets pods send VXLAN packets. They are dropped when false or absent.
	// +optional
	AllowVXLANPacketsFromWorkloads *bool `json:"allowVXLANPacketsFromWorkloads,omitempty"`

	// AllowIPIPPacketsFromWorkloads lets pods send IPIP packets. They are dropped when false or absent.
	// +optional
	AllowIPIPPacketsFromWorkloads *bool `json:"allowIPIPPacketsFromWorkloads,omitempty"`

	// FloatingIPs gives pods the addresses of their annotation cni.projectcalico.org/floatingIPs. Disabled when absent.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	FloatingIPs string `json:"floatingIPs,omitempty"`

	// NATOutgoingAddress is the source address of traffic that natOutgoing of a pool rewrites. That of the outgoing
	// interface when absent.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self)",message="must be an IP address"
	// +optional
	NATOutgoingAddress string `json:"natOutgoingAddress,omitempty"`

	// NATOutgoingExclusions says which destinations natOutgoing leaves alone: IPPoolsOnly, addresses of pools;
	// IPPoolsAndHostIPs, those of nodes too.
	// +kubebuilder:validation:Enum=IPPoolsOnly;IPPoolsAndHostIPs
	// +optional
	NATOutgoingExclusions string `json:"natOutgoingExclusions,omitempty"`

	// NATPortRange is the range of source ports that natOutgoing uses, such as "32768:65535". The kernel's choice when
	// absent.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	// +optional
	NATPortRange *intstr.IntOrString `json:"natPortRange,omitempty"`

	// InterfacePrefix is what the names of pod interfaces start with, separated by commas. cali when absent.
	// +optional
	InterfacePrefix string `json:"interfacePrefix,omitempty"`

	// InterfaceExclude are the interfaces that host endpoints with interfaceName * leave out, separated by commas; an
	// entry between slashes is a regular expression.
	// +optional
	InterfaceExclude string `json:"interfaceExclude,omitempty"`

	// ServiceLoopPrevention says what becomes of packets to service addresses that nothing answers for: Drop, Reject or
	// Disabled. Drop when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Drop|Reject|Disabled)?$`
	// +optional
	ServiceLoopPrevention string `json:"serviceLoopPrevention,omitempty"`

	// IstioAmbientMode works together with the ambient mode of Istio. Disabled when absent.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	IstioAmbientMode string `json:"istioAmbientMode,omitempty"`

	// IstioDSCPMark is the DSCP that marks traffic of the ambient mode of Istio.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^.*`
	// +optional
	IstioDSCPMark *intstr.IntOrString `json:"istioDSCPMark,omitempty"`

	// SidecarAccelerationEnabled speeds up traffic between a sidecar and its application where the dataplane can.
	// +optional
	SidecarAccelerationEnabled *bool `json:"sidecarAccelerationEnabled,omitempty"`

	// PolicySyncPathPrefix is the folder of the sockets on which proxies get the http matches of policies. Off when
	// absent.
	// +optional
	PolicySyncPathPrefix string `json:"policySyncPathPrefix,omitempty"`
}
