package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPConfiguration holds the settings of BGP: "default" for all nodes, "node.<name>" for one node on top of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=bgpconfigurations,shortName={bgpconfig,bgpconfigs}
// +kubebuilder:printcolumn:name="Mesh",type=boolean,JSONPath=`.spec.nodeToNodeMeshEnabled`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.asNumber`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPConfigurationSpec `json:"spec"`
	Status BGPStatus            `json:"status,omitzero"`
}

// BGPConfigurationList is a list of BGPConfiguration.
//
// +kubebuilder:object:root=true
type BGPConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPConfiguration `json:"items"`
}

// BGPConfigurationSpec is what the user asks of BGP.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nodeMeshPassword) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",message="nodeMeshPassword has no effect without the mesh: remove it or set nodeToNodeMeshEnabled to true"
// +kubebuilder:validation:XValidation:rule="!has(self.nodeMeshMaxRestartTime) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",message="nodeMeshMaxRestartTime has no effect without the mesh: remove it or set nodeToNodeMeshEnabled to true"
type BGPConfigurationSpec struct {
	// LogSeverityScreen is the least severity of messages about BGP in the node agent's log.
	// +kubebuilder:default=Info
	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`

	// NodeToNodeMeshEnabled has every node peer with every other. True when absent.
	// +optional
	NodeToNodeMeshEnabled *bool `json:"nodeToNodeMeshEnabled,omitempty"`

	// ASNumber of the nodes. 64512 when absent.
	// +optional
	ASNumber *ASNumber `json:"asNumber,omitempty"`

	// ListenPort of BGP on the nodes. 179 when absent.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	ListenPort int `json:"listenPort,omitempty"`

	// BindMode: NodeIP listens on the node's BGP address only, None on all addresses. None when absent.
	// +kubebuilder:validation:Enum=None;NodeIP
	// +optional
	BindMode *string `json:"bindMode,omitempty"`

	// ServiceLoadBalancerIPs are ranges whose addresses are advertised when a service of type LoadBalancer has them.
	// +listType=atomic
	// +optional
	ServiceLoadBalancerIPs []ServiceLoadBalancerIPBlock `json:"serviceLoadBalancerIPs,omitempty"`

	// ServiceLoadBalancerAggregation: Enabled advertises the ranges of serviceLoadBalancerIPs as given, Disabled a route of its own
	// for each address with a ready endpoint.
	// +kubebuilder:default=Enabled
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	ServiceLoadBalancerAggregation string `json:"serviceLoadBalancerAggregation,omitempty"`

	// ServiceExternalIPs are ranges whose addresses are advertised when a service has them among its externalIPs.
	// +listType=atomic
	// +optional
	ServiceExternalIPs []ServiceExternalIPBlock `json:"serviceExternalIPs,omitempty"`

	// ServiceClusterIPs are the ranges of cluster IPs to advertise.
	// +listType=atomic
	// +optional
	ServiceClusterIPs []ServiceClusterIPBlock `json:"serviceClusterIPs,omitempty"`

	// Communities gives names to BGP communities, for prefixAdvertisements.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	Communities []Community `json:"communities,omitempty"`

	// PrefixAdvertisements say with which communities routes are advertised.
	// +kubebuilder:validation:MaxItems=500
	// +listType=atomic
	// +optional
	PrefixAdvertisements []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`

	// NodeMeshPassword is the password of the sessions between nodes.
	// +optional
	NodeMeshPassword *BGPPassword `json:"nodeMeshPassword,omitempty"`

	// NodeMeshMaxRestartTime is how long a node keeps the routes of another that restarts (RFC 4724), such as 120s.
	// +optional
	NodeMeshMaxRestartTime *Duration `json:"nodeMeshMaxRestartTime,omitempty"`

	// IgnoredInterfaces are patterns of interfaces whose routes and addresses BGP leaves alone, such as docker*.
	// +listType=set
	// +optional
	IgnoredInterfaces []string `json:"ignoredInterfaces,omitempty"`

	// ProgramClusterRoutes says who writes the routes to other nodes' pods into the kernel: Enabled, BGP for all pools;
	// EnabledIPIPOnly and EnabledNoEncapOnly, BGP for those pools; Disabled, the node agent.
	// +kubebuilder:validation:Enum=Enabled;Disabled;EnabledIPIPOnly;EnabledNoEncapOnly
	// +optional
	ProgramClusterRoutes *string `json:"programClusterRoutes,omitempty"`

	// LocalWorkloadPeeringIPV4 is the address that pods of the node use to peer with it over IPv4.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 4)",message="must be an IPv4 address such as 169.254.1.1"
	// +optional
	LocalWorkloadPeeringIPV4 string `json:"localWorkloadPeeringIPV4,omitempty"`

	// LocalWorkloadPeeringIPV6 is the address that pods of the node use to peer with it over IPv6.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 6)",message="must be an IPv6 address such as fe80::1"
	// +optional
	LocalWorkloadPeeringIPV6 string `json:"localWorkloadPeeringIPV6,omitempty"`

	// IPv4NormalRoutePriority is the metric of the IPv4 routes that BGP writes into the kernel.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	IPv4NormalRoutePriority *int `json:"ipv4NormalRoutePriority,omitempty"`

	// IPv6NormalRoutePriority is the metric of the IPv6 routes that BGP writes into the kernel.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483646
	// +optional
	IPv6NormalRoutePriority *int `json:"ipv6NormalRoutePriority,omitempty"`
}

// ServiceLoadBalancerIPBlock is a range of addresses of services of type LoadBalancer.
type ServiceLoadBalancerIPBlock struct {
	// CIDR of the range.
	// +kubebuilder:validation:Format=cidr
	// +optional
	CIDR string `json:"cidr,omitempty"`
}

// ServiceExternalIPBlock is a range of external addresses of services.
type ServiceExternalIPBlock struct {
	// CIDR of the range.
	// +kubebuilder:validation:Format=cidr
	// +optional
	CIDR string `json:"cidr,omitempty"`
}

// ServiceClusterIPBlock is a range of cluster IPs.
type ServiceClusterIPBlock struct {
	// CIDR of the range.
	// +kubebuilder:validation:Format=cidr
	// +optional
	CIDR string `json:"cidr,omitempty"`
}

// Community is a BGP community with a name.
type Community struct {
	// Name of the community.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// Value of the community: aa:nn (RFC 1997) or aaaa:nnnn:mmmm (RFC 8092).
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$`
	// +optional
	Value string `json:"value,omitempty"`
}

// PrefixAdvertisement says with which communities a prefix is advertised.
type PrefixAdvertisement struct {
	// CIDR of the routes: routes inside it get the communities.
	// +kubebuilder:validation:Format=cidr
	// +optional
	CIDR string `json:"cidr,omitempty"`

	// Communities, each by its name among communities or by its value.
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	Communities []string `json:"communities,omitempty"`
}
