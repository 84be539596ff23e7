package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VMAddressPersistence says whether a virtual machine keeps its address.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type VMAddressPersistence string

const (
	// VMAddressPersistenceEnabled has a virtual machine keep its address over restarts and migrations.
	VMAddressPersistenceEnabled VMAddressPersistence = "Enabled"
	// VMAddressPersistenceDisabled has a virtual machine get a new address with each pod.
	VMAddressPersistenceDisabled VMAddressPersistence = "Disabled"
)

// IPAMConfiguration holds the settings of address management: the object named "default".
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ipamconfigurations,shortName={ipamconfig,ipamconfigs}
// +kubebuilder:printcolumn:name="StrictAffinity",type=boolean,JSONPath=`.spec.strictAffinity`
// +kubebuilder:printcolumn:name="MaxBlocksPerHost",type=integer,JSONPath=`.spec.maxBlocksPerHost`
// +kubebuilder:printcolumn:name="AutoAllocateBlocks",type=boolean,JSONPath=`.spec.autoAllocateBlocks`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAMConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAMConfigurationSpec `json:"spec"`
}

// IPAMConfigurationList is a list of IPAMConfiguration.
//
// +kubebuilder:object:root=true
type IPAMConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAMConfiguration `json:"items"`
}

// IPAMConfigurationSpec is what the user asks of address management.
type IPAMConfigurationSpec struct {
	// StrictAffinity keeps nodes from borrowing single addresses of other nodes' blocks.
	// +kubebuilder:default=false
	StrictAffinity bool `json:"strictAffinity"`

	// AutoAllocateBlocks leases blocks to nodes on demand. When false, nodes use only the blocks that they have.
	// +kubebuilder:default=true
	AutoAllocateBlocks bool `json:"autoAllocateBlocks"`

	// MaxBlocksPerHost bounds the blocks of a node. 0 stands for 20.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxBlocksPerHost int32 `json:"maxBlocksPerHost,omitempty"`

	// IPCooldownSeconds is how long an address that was given back is not used again.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1200
	// +optional
	IPCooldownSeconds *int32 `json:"ipCooldownSeconds,omitempty"`

	// KubeVirtVMAddressPersistence has virtual machines of KubeVirt keep their addresses over restarts and migrations.
	// +optional
	KubeVirtVMAddressPersistence *VMAddressPersistence `json:"kubeVirtVMAddressPersistence,omitempty"`
}
