package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KubeControllersConfiguration holds the settings of the operator's controllers: the object named "default".
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=kubecontrollersconfigurations,shortName={kcc,kccs}
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type KubeControllersConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   KubeControllersConfigurationSpec   `json:"spec"`
	Status KubeControllersConfigurationStatus `json:"status,omitzero"`
}

// KubeControllersConfigurationList is a list of KubeControllersConfiguration.
//
// +kubebuilder:object:root=true
type KubeControllersConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KubeControllersConfiguration `json:"items"`
}

// KubeControllersConfigurationSpec is what the user asks of the controllers.
type KubeControllersConfigurationSpec struct {
	// LogSeverityScreen is the least severity of messages in the log.
	// +kubebuilder:validation:Enum=None;Debug;Info;Warning;Error;Fatal;Panic
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`

	// HealthChecks turns the health endpoints on or off.
	// +kubebuilder:default=Enabled
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	HealthChecks string `json:"healthChecks,omitempty"`

	// EtcdV3CompactionPeriod is taken from manifests that give it and has no effect: the API server compacts etcd.
	// +optional
	EtcdV3CompactionPeriod *Duration `json:"etcdV3CompactionPeriod,omitempty"`

	// PrometheusMetricsPort serves metrics. 0 turns them off.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PrometheusMetricsPort *int `json:"prometheusMetricsPort,omitempty"`

	// DebugProfilePort serves profiles on the loopback address. 0 turns them off.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	DebugProfilePort *int32 `json:"debugProfilePort,omitempty"`

	// Controllers to run. Those that are absent do not run.
	Controllers ControllersConfig `json:"controllers"`
}

// KubeControllersConfigurationStatus is what the controllers run with.
type KubeControllersConfigurationStatus struct {
	// RunningConfig is the configuration in use: spec and environment together.
	// +optional
	RunningConfig *KubeControllersConfigurationSpec `json:"runningConfig,omitempty"`

	// EnvironmentVars are the environment variables that overrule the spec.
	// +optional
	EnvironmentVars map[string]string `json:"environmentVars,omitempty"`
}

// ControllersConfig has the settings of each controller.
type ControllersConfig struct {
	// Node reclaims what deleted nodes leave behind, and makes host endpoints.
	// +optional
	Node *NodeControllerConfig `json:"node,omitempty"`

	// Policy is taken from manifests that give it; policies are compiled on change.
	// +optional
	Policy *PolicyControllerConfig `json:"policy,omitempty"`

	// WorkloadEndpoint is taken from manifests that give it; endpoints are rendered on change.
	// +optional
	WorkloadEndpoint *WorkloadEndpointControllerConfig `json:"workloadEndpoint,omitempty"`

	// ServiceAccount is taken from manifests that give it; service accounts are rendered on change.
	// +optional
	ServiceAccount *ServiceAccountControllerConfig `json:"serviceAccount,omitempty"`

	// Namespace is taken from manifests that give it; namespaces are rendered on change.
	// +optional
	Namespace *NamespaceControllerConfig `json:"namespace,omitempty"`

	// LoadBalancer gives addresses to services of type LoadBalancer.
	// +optional
	LoadBalancer *LoadBalancerControllerConfig `json:"loadBalancer,omitempty"`

	// PolicyMigration moves policies to the names that they have in this API.
	// +optional
	PolicyMigration *PolicyMigrationControllerConfig `json:"migration,omitempty"`
}

// NodeControllerConfig has the settings for nodes.
type NodeControllerConfig struct {
	// ReconcilerPeriod between full comparisons, such as 5m.
	// +optional
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`

	// SyncLabels copies the labels of nodes. Nodes are read directly here, so that it has no effect.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	SyncLabels string `json:"syncLabels,omitempty"`

	// HostEndpoint says whether nodes get host endpoints by themselves.
	// +optional
	HostEndpoint *AutoHostEndpointConfig `json:"hostEndpoint,omitempty"`

	// LeakGracePeriod is how long an address without a pod is kept before it is reclaimed, such as 15m.
	// +optional
	LeakGracePeriod *Duration `json:"leakGracePeriod,omitempty"`
}

// AutoHostEndpointConfig says whether nodes get host endpoints by themselves.
type AutoHostEndpointConfig struct {
	// AutoCreate makes host endpoints for every node.
	// +kubebuilder:validation:Enum=Enabled;Disabled
	// +optional
	AutoCreate string `json:"autoCreate,omitempty"`

	// CreateDefaultHostEndpoint makes one for all interfaces of a node: Enabled or Disabled. Enabled when absent.
	// +optional
	CreateDefaultHostEndpoint string `json:"createDefaultHostEndpoint,omitempty"`

	// Templates of further host endpoints.
	// +listType=atomic
	// +optional
	Templates []HostEndpointTemplate `json:"templates,omitempty"`
}

// HostEndpointTemplate is a pattern that host endpoints are made from.
type HostEndpointTemplate struct {
	// GenerateName is a part of the names of the host endpoints.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	GenerateName string `json:"generateName,omitempty"`

	// InterfaceCIDRs: addresses of the node inside them become expected addresses of the host endpoint.
	// +listType=set
	// +optional
	InterfaceCIDRs []string `json:"interfaceCIDRs,omitempty"`

	// InterfacePattern is a regular expression for the names of interfaces that get a host endpoint each.
	// +optional
	InterfacePattern string `json:"interfacePattern,omitempty"`

	// NodeSelector picks the nodes.
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// Labels of the host endpoints.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations of the host endpoints.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PolicyControllerConfig has the settings for policies.
type PolicyControllerConfig struct {
	// ReconcilerPeriod between full comparisons, such as 5m.
	// +optional
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`
}

// WorkloadEndpointControllerConfig has the settings for pods.
type WorkloadEndpointControllerConfig struct {
	// ReconcilerPeriod between full comparisons, such as 5m.
	// +optional
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`
}

// ServiceAccountControllerConfig has the settings for service accounts.
type ServiceAccountControllerConfig struct {
	// ReconcilerPeriod between full comparisons, such as 5m.
	// +optional
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`
}

// NamespaceControllerConfig has the settings for namespaces.
type NamespaceControllerConfig struct {
	// ReconcilerPeriod between full comparisons, such as 5m.
	// +optional
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`
}

// LoadBalancerControllerConfig has the settings for services of type LoadBalancer.
type LoadBalancerControllerConfig struct {
	// AssignIPs: AllServices gives every such service an address, RequestedServicesOnly only those that ask by annotation.
	// +kubebuilder:default=AllServices
	// +kubebuilder:validation:Enum=AllServices;RequestedServicesOnly
	// +optional
	AssignIPs string `json:"assignIPs,omitempty"`
}

// PolicyMigrationControllerConfig has the settings for names of policies.
type PolicyMigrationControllerConfig struct {
	// PolicyNameMigrator turns the migration on or off.
	// +kubebuilder:default=Enabled
	// +kubebuilder:validation:Enum=Disabled;Enabled
	// +optional
	PolicyNameMigrator string `json:"policyNameMigrator,omitempty"`
}
