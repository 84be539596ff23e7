package policy

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/validate"
)

// StagedNetworkPolicy compiles a StagedNetworkPolicy.
func StagedNetworkPolicy(p *v3.StagedNetworkPolicy) *Compiled {
	c := NetworkPolicy(&v3.NetworkPolicy{ObjectMeta: p.ObjectMeta, Spec: p.Spec.NetworkPolicySpec})
	return c.stage(KindStagedNetworkPolicy, p.Spec.StagedAction, validate.StagedNetworkPolicyAction(p))
}

// StagedGlobalNetworkPolicy compiles a StagedGlobalNetworkPolicy.
func StagedGlobalNetworkPolicy(p *v3.StagedGlobalNetworkPolicy) *Compiled {
	c := GlobalNetworkPolicy(&v3.GlobalNetworkPolicy{ObjectMeta: p.ObjectMeta, Spec: p.Spec.GlobalNetworkPolicySpec})
	return c.stage(KindStagedGlobalNetworkPolicy, p.Spec.StagedAction, validate.StagedGlobalNetworkPolicyAction(p))
}

// StagedKubernetesNetworkPolicy compiles a StagedKubernetesNetworkPolicy.
func StagedKubernetesNetworkPolicy(p *v3.StagedKubernetesNetworkPolicy) *Compiled {
	c := KubernetesNetworkPolicy(&networkingv1.NetworkPolicy{ObjectMeta: p.ObjectMeta, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: p.Spec.PodSelector, Ingress: p.Spec.Ingress, Egress: p.Spec.Egress, PolicyTypes: p.Spec.PolicyTypes,
	}})
	return c.stage(KindStagedKubernetesNetworkPolicy, p.Spec.StagedAction, validate.StagedKubernetesNetworkPolicy(p))
}

// stage makes of a policy one that is only tried out. What remains of it is whom it would apply to and what is wrong with
// it: it has no program, and no sets that would bring labels into use.
func (c *Compiled) stage(kind string, action v3.StagedAction, errs field.ErrorList) *Compiled {
	would := c.Ref.Kind
	if would == KindKubernetesNetworkPolicy {
		would = "NetworkPolicy of networking.k8s.io"
	}
	c.Ref.Kind, c.Staged = kind, true
	c.Program, c.Sets = v1alpha1.PolicyProgramSpec{}, nil
	const idle = "; a staged policy is not enforced, with or without this"
	switch {
	case len(errs) > 0:
		c.Selector, c.Errs = nil, errs
		c.Finding = Finding{Reason: ReasonInvalid, Message: joinProblems(errs) + idle}
	case !c.Finding.Accepted:
		c.Finding.Message = c.problems + idle
	case action == v3.StagedActionDelete:
		c.Selector = nil
		c.Finding = accepted()
		c.Finding.Message = "stands for deleting the " + would + " called " + c.Ref.Name + "; not enforced"
	case action == v3.StagedActionIgnore:
		c.Selector = nil
		c.Finding = accepted()
		c.Finding.Message = "ignored, as stagedAction says; not enforced"
	}
	return c
}
