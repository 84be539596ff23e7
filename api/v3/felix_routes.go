package v3

// FelixRoutes are settings for the routes of the node.
type FelixRoutes struct {
	// RouteSource says where routes to other nodes' pods come from: WorkloadIPs or CalicoIPAM (the blocks of nodes).
	// CalicoIPAM when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(WorkloadIPs|CalicoIPAM)?$`
	// +optional
	RouteSource string `json:"routeSource,omitempty"`

	// RouteSyncDisabled leaves routes alone.
	// +optional
	RouteSyncDisabled *bool `json:"routeSyncDisabled,omitempty"`

	// RouteRefreshInterval is the time between full comparisons of routes with the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	RouteRefreshInterval *Duration `json:"routeRefreshInterval,omitempty"`

	// RouteTableRange is the range of routing tables that the node agent may use. Excludes routeTableRanges, which
	// replaces it.
	// +optional
	RouteTableRange *RouteTableRange `json:"routeTableRange,omitempty"`

	// RouteTableRanges are the ranges of routing tables that the node agent may use.
	// +optional
	RouteTableRanges []RouteTableRange `json:"routeTableRanges,omitzero"`

	// RemoveExternalRoutes removes routes to pod interfaces that others made. True when absent.
	// +optional
	RemoveExternalRoutes *bool `json:"removeExternalRoutes,omitempty"`

	// DeviceRouteProtocol is the protocol number that marks the node agent's routes. 80 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 255",message="must be from 0 to 255"
	// +optional
	DeviceRouteProtocol *int `json:"deviceRouteProtocol,omitempty"`

	// DeviceRouteSourceAddress is the IPv4 source address of routes to the node's pods. The kernel's choice when absent.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 4)",message="must be an IPv4 address"
	// +optional
	DeviceRouteSourceAddress string `json:"deviceRouteSourceAddress,omitempty"`

	// DeviceRouteSourceAddressIPv6 is the IPv6 source address of routes to the node's pods. The kernel's choice when
	// absent.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 6)",message="must be an IPv6 address"
	// +optional
	DeviceRouteSourceAddressIPv6 string `json:"deviceRouteSourceAddressIPv6,omitempty"`

	// ProgramClusterRoutes says who writes the routes to other nodes' pods into the kernel: Enabled, the node agent for
	// all pools; EnabledIPIPOnly and EnabledNoEncapOnly, the node agent for those pools; Disabled, BGP.
	// +kubebuilder:validation:Enum=Enabled;Disabled;EnabledIPIPOnly;EnabledNoEncapOnly
	// +optional
	ProgramClusterRoutes string `json:"programClusterRoutes,omitempty"`

	// IPv4NormalRoutePriority is the metric of IPv4 routes.
	// +optional
	IPv4NormalRoutePriority *int `json:"ipv4NormalRoutePriority,omitempty"`

	// IPv6NormalRoutePriority is the metric of IPv6 routes.
	// +optional
	IPv6NormalRoutePriority *int `json:"ipv6NormalRoutePriority,omitempty"`

	// IPv4ElevatedRoutePriority is the metric of IPv4 routes that win over the normal ones, as while a virtual machine
	// migrates.
	// +optional
	IPv4ElevatedRoutePriority *int `json:"ipv4ElevatedRoutePriority,omitempty"`

	// IPv6ElevatedRoutePriority is the metric of IPv6 routes that win over the normal ones, as while a virtual machine
	// migrates.
	// +optional
	IPv6ElevatedRoutePriority *int `json:"ipv6ElevatedRoutePriority,omitempty"`

	// LiveMigrationRouteConvergenceTime is how long routes stay elevated after a live migration.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	LiveMigrationRouteConvergenceTime *Duration `json:"liveMigrationRouteConvergenceTime,omitempty"`

	// LocalSubnetL2Reachability answers ARP and NDP for pods and load balancers whose addresses are of the node's own
	// subnet: Disabled or PodsAndLoadBalancers.
	// +kubebuilder:validation:Enum=Disabled;PodsAndLoadBalancers
	// +optional
	LocalSubnetL2Reachability string `json:"localSubnetL2Reachability,omitempty"`

	// LocalSubnetL2ReachabilityRefreshInterval is the time between full comparisons of those answers with the kernel.
	// +optional
	LocalSubnetL2ReachabilityRefreshInterval *Duration `json:"localSubnetL2ReachabilityRefreshInterval,omitempty"`

	// IPForwarding turns forwarding on where it is off. Enabled when absent.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	IPForwarding string `json:"ipForwarding,omitempty"`

	// IPv6Support turns IPv6 on. True when absent.
	// +optional
	IPv6Support *bool `json:"ipv6Support,omitempty"`

	// NetlinkTimeout bounds each request to the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	NetlinkTimeout *Duration `json:"netlinkTimeout,omitempty"`

	// InterfaceRefreshInterval is the time between full comparisons of interfaces with the kernel.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	InterfaceRefreshInterval *Duration `json:"interfaceRefreshInterval,omitempty"`

	// AWSSrcDstCheck says what becomes of the source/destination check of AWS instances: DoNothing, Enable or Disable.
	// DoNothing when absent.
	// +kubebuilder:validation:Enum=DoNothing;Enable;Disable
	// +optional
	AWSSrcDstCheck string `json:"awsSrcDstCheck,omitempty"`
}

// RouteTableRange is a range of routing tables, both ends included.
//
// +kubebuilder:validation:XValidation:rule="self.min >= 1 && self.min <= self.max",message="min must be at least 1 and not above max"
type RouteTableRange struct {
	// Min is the first table.
	Min int `json:"min"`

	// Max is the last table.
	Max int `json:"max"`
}
