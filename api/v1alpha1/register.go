package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the rendered kinds.
const GroupName = "manul.dev"

// Version is the version of the rendered kinds.
const Version = "v1alpha1"

// SchemeGroupVersion names the group and version that this package registers.
func SchemeGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// AddToScheme registers the rendered kinds with scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	gv := SchemeGroupVersion()
	scheme.AddKnownTypes(gv,
		&NodeState{}, &NodeStateList{},
		&NodeEndpoints{}, &NodeEndpointsList{},
		&NodeNetwork{}, &NodeNetworkList{},
		&PolicyProgram{}, &PolicyProgramList{},
		&SetCatalog{}, &SetCatalogList{},
	)
	metav1.AddToGroupVersion(scheme, gv)
	return nil
}
