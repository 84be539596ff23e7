package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EncapMode says when traffic between nodes is encapsulated.
//
// +kubebuilder:validation:Enum=Never;Always;CrossSubnet
type EncapMode string

const (
	// EncapNever routes packets as they are.
	EncapNever EncapMode = "Never"
	// EncapAlways encapsulates every packet between nodes.
	EncapAlways EncapMode = "Always"
	// EncapCrossSubnet encapsulates packets between nodes of different subnets.
	EncapCrossSubnet EncapMode = "CrossSubnet"
)

// IPPoolAllowedUse is a purpose that addresses of a pool may serve.
//
// +kubebuilder:validation:Enum=Workload;Tunnel;LoadBalancer
type IPPoolAllowedUse string

const (
	// IPPoolAllowedUseWorkload gives addresses to pods.
	IPPoolAllowedUseWorkload IPPoolAllowedUse = "Workload"
	// IPPoolAllowedUseTunnel gives addresses to the tunnel devices of nodes.
	IPPoolAllowedUseTunnel IPPoolAllowedUse = "Tunnel"
	// IPPoolAllowedUseLoadBalancer gives addresses to services of type LoadBalancer.
	IPPoolAllowedUseLoadBalancer IPPoolAllowedUse = "LoadBalancer"
)

// AssignmentMode says whether addresses come from a pool without being asked for.
//
// +kubebuilder:validation:Enum=Automatic;Manual
type AssignmentMode string

const (
	// AssignmentAutomatic uses the pool for every pod that its selectors match.
	AssignmentAutomatic AssignmentMode = "Automatic"
	// AssignmentManual uses the pool only for pods whose annotations name it.
	AssignmentManual AssignmentMode = "Manual"
)

// Conditions of a pool.
const (
	// ConditionAllocatable says whether addresses can be taken from a pool.
	ConditionAllocatable = "Allocatable"
	// ConditionNearlyExhausted says whether most of a pool's addresses are in use.
	ConditionNearlyExhausted = "NearlyExhausted"
)

// MaxPoolNodes is how many nodes the status of a pool names.
const MaxPoolNodes = 50

// IPPool is a range of addresses for pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=ippools
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="VXLAN",type=string,JSONPath=`.spec.vxlanMode`
// +kubebuilder:printcolumn:name="IPIP",type=string,JSONPath=`.spec.ipipMode`
// +kubebuilder:printcolumn:name="NAT",type=boolean,JSONPath=`.spec.natOutgoing`
// +kubebuilder:printcolumn:name="Allocatable",type=string,JSONPath=`.status.conditions[?(@.type=='Allocatable')].status`
// +kubebuilder:printcolumn:name="In Use",type=integer,JSONPath=`.status.allocated`
// +kubebuilder:printcolumn:name="Addresses",type=integer,JSONPath=`.status.capacity`,priority=1
// +kubebuilder:printcolumn:name="Blocks",type=integer,JSONPath=`.status.blocks`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   IPPoolSpec   `json:"spec"`
	Status IPPoolStatus `json:"status,omitzero"`
}

// IPPoolList is a list of IPPool.
//
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPPool `json:"items"`
}

// IPPoolSpec is what the user asks of an IPPool.
//
// +kubebuilder:validation:XValidation:rule="self.cidr.contains(':') || ((has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) >= 20 && (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) <= 32)",message="blockSize must be from 20 to 32 for an IPv4 pool"
// +kubebuilder:validation:XValidation:rule="!self.cidr.contains(':') || ((has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) >= 116 && (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) <= 128)",message="blockSize must be from 116 to 128 for an IPv6 pool"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) >= cidr(self.cidr).prefixLength()",message="blockSize is larger than the pool: write at least the prefix length of cidr"
// +kubebuilder:validation:XValidation:rule="(has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (self.cidr.contains(':') ? 122 : 26)) == (has(oldSelf.blockSize) && oldSelf.blockSize != 0 ? oldSelf.blockSize : (oldSelf.cidr.contains(':') ? 122 : 26))",message="blockSize can't change: make a new pool, disable this one, and delete it when it is empty"
// +kubebuilder:validation:XValidation:rule="!((has(self.ipipMode) && self.ipipMode != 'Never') && (has(self.vxlanMode) && self.vxlanMode != 'Never'))",message="ipipMode and vxlanMode exclude each other: set one to Never"
// +kubebuilder:validation:XValidation:rule="!((has(self.ipipMode) && self.ipipMode != 'Never') && self.cidr.contains(':'))",message="ipipMode is for IPv4 only: use vxlanMode"
// +kubebuilder:validation:XValidation:rule="!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || size(self.allowedUses) == 1",message="allowedUses LoadBalancer stands alone: make a pool of its own for services"
type IPPoolSpec struct {
	// CIDR of the pool. It can't change and must not overlap with another pool.
	// +kubebuilder:validation:Format=cidr
	// +kubebuilder:validation:MaxLength=48
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a network such as 10.48.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="can't change: make a new pool, disable this one, and delete it when it is empty"
	CIDR string `json:"cidr"`

	// VXLANMode says when packets to other nodes' pods are put into VXLAN. Excludes ipipMode.
	// +optional
	VXLANMode EncapMode `json:"vxlanMode,omitempty"`

	// IPIPMode says when packets to other nodes' pods are put into IPIP. IPv4 only. Excludes vxlanMode.
	// +optional
	IPIPMode EncapMode `json:"ipipMode,omitempty"`

	// NATOutgoing gives packets from the pool to addresses outside all pools the address of the node.
	// +optional
	NATOutgoing bool `json:"natOutgoing,omitempty"`

	// Disabled stops the pool from giving out addresses. Those in use stay.
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// DisableBGPExport keeps routes of the pool from BGP peers outside the cluster.
	// +optional
	DisableBGPExport bool `json:"disableBGPExport,omitempty"`

	// BlockSize is the prefix length of the blocks that nodes take from the pool: 20 to 32 for IPv4 (26 when absent),
	// 116 to 128 for IPv6 (122 when absent). It can't change.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	// +optional
	BlockSize int `json:"blockSize,omitempty"`

	// NodeSelector picks the nodes whose pods get addresses from the pool.
	// +kubebuilder:default="all()"
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NodeSelector string `json:"nodeSelector,omitempty"`

	// NamespaceSelector picks the namespaces whose pods get addresses from the pool. All when empty.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	NamespaceSelector string `json:"namespaceSelector,omitempty"`

	// AllowedUses are the purposes that the pool's addresses may serve. Workload and Tunnel when empty.
	// +kubebuilder:validation:MaxItems=10
	// +listType=set
	// +optional
	AllowedUses []IPPoolAllowedUse `json:"allowedUses,omitempty"`

	// AssignmentMode: Automatic uses the pool for every pod that its selectors match, Manual only for pods whose annotations name it.
	// +kubebuilder:default=Automatic
	// +optional
	AssignmentMode AssignmentMode `json:"assignmentMode,omitempty"`
}

// IPPoolStatus is what became of an IPPool.
type IPPoolStatus struct {
	// Conditions: Allocatable (addresses can be taken from the pool), NearlyExhausted (most of its addresses are in use).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Capacity counts the addresses of the pool, at most 2^63-1.
	// +optional
	Capacity *int64 `json:"capacity,omitempty"`

	// Allocated counts the addresses in use: by pods, tunnels and services.
	// +optional
	Allocated *int64 `json:"allocated,omitempty"`

	// Blocks counts the blocks that are leased to nodes.
	// +optional
	Blocks *int32 `json:"blocks,omitempty"`

	// NodeCount counts the nodes that have blocks or addresses of the pool.
	// +optional
	NodeCount *int32 `json:"nodeCount,omitempty"`

	// Nodes are those of them that use the most addresses of the pool, in order of their name.
	// +kubebuilder:validation:MaxItems=50
	// +listType=map
	// +listMapKey=node
	// +optional
	Nodes []IPPoolNodeUse `json:"nodes,omitempty"`
}

// IPPoolNodeUse is what a node uses of a pool.
type IPPoolNodeUse struct {
	// Node is the name of the node.
	Node string `json:"node"`

	// Blocks counts the blocks of the pool that are leased to the node.
	// +optional
	Blocks int32 `json:"blocks"`

	// Allocated counts the addresses of the pool that the node's pods and tunnels use.
	// +optional
	Allocated int64 `json:"allocated"`
}
