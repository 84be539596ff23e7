package v3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of the user API.
const GroupName = "projectcalico.org"

// Version is the version of the user API.
const Version = "v3"

// SchemeGroupVersion names the group and version that this package registers.
func SchemeGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// AddToScheme registers the kinds of the user API with scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	gv := SchemeGroupVersion()
	scheme.AddKnownTypes(gv,
		&BGPConfiguration{}, &BGPConfigurationList{},
		&BGPFilter{}, &BGPFilterList{},
		&BGPPeer{}, &BGPPeerList{},
		&BlockAffinity{}, &BlockAffinityList{},
		&CalicoNodeStatus{}, &CalicoNodeStatusList{},
		&ClusterInformation{}, &ClusterInformationList{},
		&FelixConfiguration{}, &FelixConfigurationList{},
		&GlobalNetworkPolicy{}, &GlobalNetworkPolicyList{},
		&GlobalNetworkSet{}, &GlobalNetworkSetList{},
		&HostEndpoint{}, &HostEndpointList{},
		&IPAMBlock{}, &IPAMBlockList{},
		&IPAMConfiguration{}, &IPAMConfigurationList{},
		&IPAMHandle{}, &IPAMHandleList{},
		&IPPool{}, &IPPoolList{},
		&IPReservation{}, &IPReservationList{},
		&KubeControllersConfiguration{}, &KubeControllersConfigurationList{},
		&NetworkPolicy{}, &NetworkPolicyList{},
		&NetworkSet{}, &NetworkSetList{},
		&StagedGlobalNetworkPolicy{}, &StagedGlobalNetworkPolicyList{},
		&StagedKubernetesNetworkPolicy{}, &StagedKubernetesNetworkPolicyList{},
		&StagedNetworkPolicy{}, &StagedNetworkPolicyList{},
		&Tier{}, &TierList{},
	)
	metav1.AddToGroupVersion(scheme, gv)
	return nil
}
