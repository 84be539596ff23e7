package policy

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	v3 "github.com/manul-net/manul/api/v3"
)

// Compile compiles a policy of any kind; nil: obj is no policy.
func Compile(obj runtime.Object) *Compiled {
	switch p := obj.(type) {
	case *networkingv1.NetworkPolicy:
		return KubernetesNetworkPolicy(p)
	case *clusterv1alpha2.ClusterNetworkPolicy:
		return ClusterNetworkPolicy(p)
	case *adminv1alpha1.AdminNetworkPolicy:
		return AdminNetworkPolicy(p)
	case *adminv1alpha1.BaselineAdminNetworkPolicy:
		return BaselineAdminNetworkPolicy(p)
	case *v3.NetworkPolicy:
		return NetworkPolicy(p)
	case *v3.GlobalNetworkPolicy:
		return GlobalNetworkPolicy(p)
	case *v3.StagedNetworkPolicy:
		return StagedNetworkPolicy(p)
	case *v3.StagedGlobalNetworkPolicy:
		return StagedGlobalNetworkPolicy(p)
	case *v3.StagedKubernetesNetworkPolicy:
		return StagedKubernetesNetworkPolicy(p)
	}
	return nil
}

// RefOf names a policy of any kind; false: obj is no policy.
func RefOf(obj runtime.Object) (Ref, bool) {
	switch p := obj.(type) {
	case *networkingv1.NetworkPolicy:
		return Ref{KindKubernetesNetworkPolicy, p.Namespace, p.Name}, true
	case *clusterv1alpha2.ClusterNetworkPolicy:
		return Ref{KindClusterNetworkPolicy, "", p.Name}, true
	case *adminv1alpha1.AdminNetworkPolicy:
		return Ref{KindAdminNetworkPolicy, "", p.Name}, true
	case *adminv1alpha1.BaselineAdminNetworkPolicy:
		return Ref{KindBaselineAdminNetworkPolicy, "", p.Name}, true
	case *v3.NetworkPolicy:
		return Ref{KindNetworkPolicy, p.Namespace, p.Name}, true
	case *v3.GlobalNetworkPolicy:
		return Ref{KindGlobalNetworkPolicy, "", p.Name}, true
	case *v3.StagedNetworkPolicy:
		return Ref{KindStagedNetworkPolicy, p.Namespace, p.Name}, true
	case *v3.StagedGlobalNetworkPolicy:
		return Ref{KindStagedGlobalNetworkPolicy, "", p.Name}, true
	case *v3.StagedKubernetesNetworkPolicy:
		return Ref{KindStagedKubernetesNetworkPolicy, p.Namespace, p.Name}, true
	}
	return Ref{}, false
}
