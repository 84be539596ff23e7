package webhooks

import (
	"context"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/validate"
)

func writeNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.NetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return checkPolicy(ctx, in, validate.NetworkPolicy(p), p.Namespace, func() *policy.Compiled { return policy.NetworkPolicy(p) }, p.Spec.Tier,
		p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
}

func writeGlobalNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.GlobalNetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return checkPolicy(ctx, in, validate.GlobalNetworkPolicy(p), "", func() *policy.Compiled { return policy.GlobalNetworkPolicy(p) }, p.Spec.Tier,
		p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
}

func writeStagedNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.StagedNetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return checkPolicy(ctx, in, validate.StagedNetworkPolicy(p), p.Namespace, func() *policy.Compiled { return policy.StagedNetworkPolicy(p) }, p.Spec.Tier,
		p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
}

func writeStagedGlobalNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.StagedGlobalNetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	return checkPolicy(ctx, in, validate.StagedGlobalNetworkPolicy(p), "", func() *policy.Compiled { return policy.StagedGlobalNetworkPolicy(p) }, p.Spec.Tier,
		p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
}

func writeStagedKubernetesNetworkPolicy(ctx context.Context, in Cluster, obj client.Object) (verdict, error) {
	p, ok := obj.(*v3.StagedKubernetesNetworkPolicy)
	if !ok {
		return verdict{}, unexpected(obj)
	}
	v := verdict{errs: validate.StagedKubernetesNetworkPolicy(p)}
	if len(v.errs) > 0 {
		return v, nil
	}
	v.warnings = kubernetesWarnings(&networkingv1.NetworkPolicySpec{Ingress: p.Spec.Ingress, Egress: p.Spec.Egress, PolicyTypes: p.Spec.PolicyTypes})
	if compiled := policy.StagedKubernetesNetworkPolicy(p); compiled.Selector != nil {
		v.warnNone(ctx, in, compiled, p.Namespace)
	}
	return v, nil
}

// checkPolicy adds to the mistakes that a policy has by itself what only the cluster shows, and warns of what is legal and
// surely not meant.
func checkPolicy(ctx context.Context, in Cluster, errs field.ErrorList, namespace string, compile func() *policy.Compiled,
	tierName string, policyTypes []v3.PolicyType, ingress, egress []v3.Rule,
) (verdict, error) {
	tier, path := &v3.Tier{}, field.NewPath("spec", "tier")
	if !slices.ContainsFunc(errs, func(e *field.Error) bool { return e.Field == path.String() }) { // no need to look for what can't be
		var err error
		if tier, err = tierOf(ctx, in, tierName); err != nil {
			return verdict{}, err
		}
	}
	if tier == nil {
		errs = append(errs, field.Invalid(path, tierName, "there is no tier of this name: create the tier first, or name another"))
	}
	if len(errs) > 0 {
		return verdict{errs: errs}, nil
	}
	compiled := compile()
	types := make([]string, 0, len(policyTypes))
	for _, t := range policyTypes {
		types = append(types, string(t))
	}
	var v verdict
	if f := compiled.Finding; !f.Accepted || f.Reason == policy.ReasonHTTPNotEnforced {
		v.warnings = append(v.warnings, f.Message)
	}
	v.warnings = append(v.warnings, unreachable("ingress", ingress)...)
	v.warnings = append(v.warnings, unreachable("egress", egress)...)
	v.warnings = append(v.warnings, misnamed("ingress", ingress)...)
	v.warnings = append(v.warnings, misnamed("egress", egress)...)
	v.warnings = append(v.warnings, idleRules("spec.types", types, len(ingress), len(egress))...)
	if compiled.Selector == nil {
		return v, nil // a staged policy that stands for none
	}
	if !compiled.Staged {
		v.warnings = append(v.warnings, withoutRules(compiled, tier, len(ingress), len(egress))...)
	}
	v.warnNone(ctx, in, compiled, namespace)
	return v, nil
}
