package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FelixConfiguration holds settings of the node agents: "default" for all nodes, "node.<name>" for one node on top of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=felixconfigurations
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FelixConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec FelixConfigurationSpec `json:"spec"`
}

// FelixConfigurationList is a list of FelixConfiguration.
//
// +kubebuilder:object:root=true
type FelixConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FelixConfiguration `json:"items"`
}

// FelixConfigurationSpec is what the user asks of the node agents. A setting that is absent has the agent's default.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.routeTableRange) && has(self.routeTableRanges))",message="routeTableRange and routeTableRanges exclude each other: write routeTableRanges alone"
type FelixConfigurationSpec struct {
	FelixWorkloads  `json:",inline"`
	FelixHosts      `json:",inline"`
	FelixTunnels    `json:",inline"`
	FelixWireguard  `json:",inline"`
	FelixRoutes     `json:",inline"`
	FelixIptables   `json:",inline"`
	FelixNftables   `json:",inline"`
	FelixBPF        `json:",inline"`
	FelixBPFMaps    `json:",inline"`
	FelixLogging    `json:",inline"`
	FelixMonitoring `json:",inline"`
}
