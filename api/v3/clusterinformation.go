package v3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ClusterInformation tells about the cluster: the object named "default". The operator writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=clusterinformations,shortName={clusterinfo,clusterinfos}
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.calicoVersion`
// +kubebuilder:printcolumn:name="Ready",type=boolean,JSONPath=`.spec.datastoreReady`
// +kubebuilder:printcolumn:name="Types",type=string,JSONPath=`.spec.clusterType`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterInformation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ClusterInformationSpec `json:"spec"`
}

// ClusterInformationList is a list of ClusterInformation.
//
// +kubebuilder:object:root=true
type ClusterInformationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterInformation `json:"items"`
}

// ClusterInformationSpec tells about the cluster.
type ClusterInformationSpec struct {
	// ClusterGUID is the identity of the cluster, made once.
	// +optional
	ClusterGUID string `json:"clusterGUID,omitempty"`

	// ClusterType tells what the cluster is made of, separated by commas.
	// +optional
	ClusterType string `json:"clusterType,omitempty"`

	// CalicoVersion is the version of the API that the cluster serves.
	// +optional
	CalicoVersion string `json:"calicoVersion,omitempty"`

	// DatastoreReady is false while an upgrade asks the nodes to wait.
	// +optional
	DatastoreReady *bool `json:"datastoreReady,omitempty"`

	// Variant is the product that serves the API.
	// +optional
	Variant string `json:"variant,omitempty"`
}
