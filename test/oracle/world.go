package oracle

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	v3 "github.com/manul-net/manul/api/v3"
)

// World is a cluster as its users wrote it, and the network in which it stands.
type World struct {
	Nodes           []*corev1.Node
	Namespaces      []*corev1.Namespace
	ServiceAccounts []*corev1.ServiceAccount
	Pods            []*corev1.Pod // their addresses are in status.podIPs
	EndpointSlices  []*discoveryv1.EndpointSlice

	Felix             *v3.FelixConfiguration // the one called default, or nil
	Pools             []*v3.IPPool
	Tiers             []*v3.Tier
	NetworkSets       []*v3.NetworkSet
	GlobalNetworkSets []*v3.GlobalNetworkSet
	HostEndpoints     []*v3.HostEndpoint

	KubernetesPolicies    []*networkingv1.NetworkPolicy
	NetworkPolicies       []*v3.NetworkPolicy
	GlobalPolicies        []*v3.GlobalNetworkPolicy
	ClusterPolicies       []*clusterv1alpha2.ClusterNetworkPolicy
	AdminPolicies         []*adminv1alpha1.AdminNetworkPolicy
	BaselineAdminPolicies []*adminv1alpha1.BaselineAdminNetworkPolicy

	// Staged policies decide nothing, and a tier in which only they apply is as one in which none does: nobody here looks at them.
	StagedNetworkPolicies    []*v3.StagedNetworkPolicy
	StagedGlobalPolicies     []*v3.StagedGlobalNetworkPolicy
	StagedKubernetesPolicies []*v3.StagedKubernetesNetworkPolicy

	Interfaces   []Interface
	Translations []Translation
}

// Network is the network in which the world stands, with its pods.
func (w *World) Network() *Network {
	n := &Network{Interfaces: w.Interfaces, Translations: w.Translations}
	for _, pod := range w.Pods {
		if isEndpoint(pod) {
			n.Pods = append(n.Pods, Pod{ID: podID(pod), Node: pod.Spec.NodeName, Addresses: podAddresses(pod)})
		}
	}
	return n
}

// Users evaluates what the users wrote.
func (w *World) Users() *Evaluator {
	return &Evaluator{network: w.Network(), hooks: stages{readUsers(w)}}
}
