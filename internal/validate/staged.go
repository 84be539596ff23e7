package validate

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// StagedNetworkPolicy checks a StagedNetworkPolicy.
func StagedNetworkPolicy(p *v3.StagedNetworkPolicy) field.ErrorList {
	return append(StagedNetworkPolicyAction(p), NetworkPolicy(&v3.NetworkPolicy{ObjectMeta: p.ObjectMeta, Spec: p.Spec.NetworkPolicySpec})...)
}

// StagedGlobalNetworkPolicy checks a StagedGlobalNetworkPolicy.
func StagedGlobalNetworkPolicy(p *v3.StagedGlobalNetworkPolicy) field.ErrorList {
	return append(StagedGlobalNetworkPolicyAction(p), GlobalNetworkPolicy(&v3.GlobalNetworkPolicy{ObjectMeta: p.ObjectMeta, Spec: p.Spec.GlobalNetworkPolicySpec})...)
}

// StagedNetworkPolicyAction checks only what a StagedNetworkPolicy has beyond the policy that it tries out.
func StagedNetworkPolicyAction(p *v3.StagedNetworkPolicy) field.ErrorList {
	s := &p.Spec
	return checkStagedAction(s.StagedAction, map[string]bool{
		"order": s.Order != nil, "ingress": len(s.Ingress) > 0, "egress": len(s.Egress) > 0, "selector": s.Selector != "",
		"types": len(s.Types) > 0, "serviceAccountSelector": s.ServiceAccountSelector != "",
	})
}

// StagedGlobalNetworkPolicyAction checks only what a StagedGlobalNetworkPolicy has beyond the policy that it tries out.
func StagedGlobalNetworkPolicyAction(p *v3.StagedGlobalNetworkPolicy) field.ErrorList {
	s := &p.Spec
	return checkStagedAction(s.StagedAction, map[string]bool{
		"order": s.Order != nil, "ingress": len(s.Ingress) > 0, "egress": len(s.Egress) > 0, "selector": s.Selector != "",
		"namespaceSelector": s.NamespaceSelector != "", "types": len(s.Types) > 0, "serviceAccountSelector": s.ServiceAccountSelector != "",
		"applyOnForward": s.ApplyOnForward, "preDNAT": s.PreDNAT, "doNotTrack": s.DoNotTrack,
	})
}

// StagedKubernetesNetworkPolicyAction checks what a StagedKubernetesNetworkPolicy has beyond the policy that it tries out.
func StagedKubernetesNetworkPolicyAction(p *v3.StagedKubernetesNetworkPolicy) field.ErrorList {
	s := &p.Spec
	return checkStagedAction(s.StagedAction, map[string]bool{
		"ingress": len(s.Ingress) > 0, "egress": len(s.Egress) > 0, "policyTypes": len(s.PolicyTypes) > 0,
		"podSelector": len(s.PodSelector.MatchLabels)+len(s.PodSelector.MatchExpressions) > 0,
	})
}

// checkStagedAction: a staged deletion says nothing of what the policy would be. set tells which fields are given.
func checkStagedAction(action v3.StagedAction, set map[string]bool) field.ErrorList {
	spec := field.NewPath("spec")
	all := []v3.StagedAction{v3.StagedActionSet, v3.StagedActionDelete, v3.StagedActionLearn, v3.StagedActionIgnore}
	if action != "" && !slices.Contains(all, action) {
		return field.ErrorList{field.NotSupported(spec.Child("stagedAction"), action, all)}
	}
	if action != v3.StagedActionDelete {
		return nil
	}
	var given []string
	for name, is := range set {
		if is {
			given = append(given, name)
		}
	}
	slices.Sort(given)
	var errs field.ErrorList
	for _, name := range given {
		errs = append(errs, field.Forbidden(spec.Child(name), "stagedAction Delete stands for deleting the policy of this name: leave out everything but tier and stagedAction"))
	}
	return errs
}
