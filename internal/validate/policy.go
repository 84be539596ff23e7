package validate

import (
	"math"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// Bounds of a policy.
const (
	MaxRules = 1024
	MaxNets  = 256
	MaxPorts = 50
)

// NetworkPolicy checks a NetworkPolicy of projectcalico.org.
func NetworkPolicy(p *v3.NetworkPolicy) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkTierName(spec.Child("tier"), p.Spec.Tier)
	errs = append(errs, checkOrder(spec.Child("order"), p.Spec.Order)...)
	errs = append(errs, checkTypes(spec.Child("types"), p.Spec.Types)...)
	errs = append(errs, checkHints(spec.Child("performanceHints"), p.Spec.PerformanceHints)...)
	errs = append(errs, NetworkPolicySelectors(p)...)
	errs = append(errs, checkRules(spec.Child("ingress"), p.Spec.Ingress, ruleContext{ingress: true, namespaced: true})...)
	return append(errs, checkRules(spec.Child("egress"), p.Spec.Egress, ruleContext{namespaced: true})...)
}

// NetworkPolicySelectors checks only the selectors that say to whom a NetworkPolicy applies.
func NetworkPolicySelectors(p *v3.NetworkPolicy) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkSelector(spec.Child("selector"), p.Spec.Selector, false)
	return append(errs, checkSelector(spec.Child("serviceAccountSelector"), p.Spec.ServiceAccountSelector, false)...)
}

// GlobalNetworkPolicy checks a GlobalNetworkPolicy.
func GlobalNetworkPolicy(p *v3.GlobalNetworkPolicy) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkTierName(spec.Child("tier"), p.Spec.Tier)
	errs = append(errs, checkOrder(spec.Child("order"), p.Spec.Order)...)
	errs = append(errs, checkTypes(spec.Child("types"), p.Spec.Types)...)
	errs = append(errs, checkHints(spec.Child("performanceHints"), p.Spec.PerformanceHints)...)
	errs = append(errs, checkStage(spec, &p.Spec)...)
	errs = append(errs, GlobalNetworkPolicySelectors(p)...)
	errs = append(errs, checkRules(spec.Child("ingress"), p.Spec.Ingress, ruleContext{ingress: true})...)
	return append(errs, checkRules(spec.Child("egress"), p.Spec.Egress, ruleContext{})...)
}

// GlobalNetworkPolicySelectors checks only the selectors that say to whom a GlobalNetworkPolicy applies.
func GlobalNetworkPolicySelectors(p *v3.GlobalNetworkPolicy) field.ErrorList {
	spec := field.NewPath("spec")
	errs := checkSelector(spec.Child("selector"), p.Spec.Selector, false)
	errs = append(errs, checkSelector(spec.Child("namespaceSelector"), p.Spec.NamespaceSelector, false)...)
	return append(errs, checkSelector(spec.Child("serviceAccountSelector"), p.Spec.ServiceAccountSelector, false)...)
}

// checkStage checks at which point of a packet's path a policy on host endpoints applies.
func checkStage(spec *field.Path, s *v3.GlobalNetworkPolicySpec) field.ErrorList {
	var errs field.ErrorList
	if s.PreDNAT && s.DoNotTrack {
		errs = append(errs, field.Invalid(spec.Child("preDNAT"), true, "preDNAT and doNotTrack exclude each other: set one of them"))
	}
	if s.PreDNAT && !s.ApplyOnForward {
		errs = append(errs, field.Invalid(spec.Child("preDNAT"), true, "preDNAT needs applyOnForward: true"))
	}
	if s.DoNotTrack && !s.ApplyOnForward {
		errs = append(errs, field.Invalid(spec.Child("doNotTrack"), true, "doNotTrack needs applyOnForward: true"))
	}
	if s.PreDNAT && len(s.Egress) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("egress"), "a preDNAT policy has no egress rules"))
	}
	for i, t := range s.Types {
		if s.PreDNAT && t == v3.PolicyTypeEgress {
			errs = append(errs, field.Forbidden(spec.Child("types").Index(i), "a preDNAT policy applies to Ingress only"))
		}
	}
	return errs
}

func checkTierName(path *field.Path, name string) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		return nil
	}
	for _, problem := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(path, name, problem))
	}
	return errs
}

func checkOrder(path *field.Path, order *float64) field.ErrorList {
	if order != nil && (math.IsNaN(*order) || math.IsInf(*order, 0)) {
		return field.ErrorList{field.Invalid(path, *order, "write a number, or leave order out to be last")}
	}
	return nil
}

func checkHints(path *field.Path, hints []v3.PolicyPerformanceHint) field.ErrorList {
	errs := checkOnce(path, hints)
	for i, hint := range hints {
		if hint != v3.PerfHintAssumeNeededOnEveryNode {
			errs = append(errs, field.NotSupported(path.Index(i), hint, []v3.PolicyPerformanceHint{v3.PerfHintAssumeNeededOnEveryNode}))
		}
	}
	return errs
}

func checkTypes(path *field.Path, types []v3.PolicyType) field.ErrorList {
	if types != nil && len(types) == 0 {
		return field.ErrorList{field.Required(path, "write Ingress, Egress or both, or leave types out")}
	}
	errs := checkOnce(path, types)
	for i, t := range types {
		if t != v3.PolicyTypeIngress && t != v3.PolicyTypeEgress {
			errs = append(errs, field.NotSupported(path.Index(i), t, []v3.PolicyType{v3.PolicyTypeIngress, v3.PolicyTypeEgress}))
		}
	}
	return errs
}
