package policy

import (
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	c.Ref.Kind, c.Staged = kind, true
	c.proposed = c.Program
	c.Program, c.Sets = v1alpha1.PolicyProgramSpec{}, nil
	const idle = "; a staged policy is not enforced, with or without this"
	switch {
	case len(errs) > 0:
		c.Selector, c.Errs = nil, errs
		c.Finding = Finding{Reason: ReasonInvalid, Message: joinProblems(errs) + idle}
	case !c.Finding.Accepted:
		c.Finding.Message = c.problems + idle
	case action == v3.StagedActionDelete:
		c.Selector, c.Deletes = nil, true
		c.Finding = accepted()
		c.Finding.Message = "stands for deleting the " + c.standsFor() + "; not enforced"
	case action == v3.StagedActionIgnore:
		c.Selector = nil
		c.Finding = accepted()
		c.Finding.Message = "ignored, as stagedAction says; not enforced"
	}
	return c
}

// standsFor names the policy that a staged one stands for.
func (c *Compiled) standsFor() string {
	kind := c.Ref.Real().Kind
	if kind == KindKubernetesNetworkPolicy {
		kind = "NetworkPolicy of networking.k8s.io"
	}
	return kind + " called " + c.Ref.Name
}

// StagedEffect is what a staged policy would change.
type StagedEffect struct {
	// Endpoints to which it would apply, and the nodes that have them. Of a deletion: to which it would no longer.
	Endpoints, Nodes int
	// Ingress and Egress count those of them where that direction is open to all now and would be limited to what rules allow. Of
	// a deletion: the other way round.
	Ingress, Egress int
	// Before is the policy that would be replaced or deleted, as it is now; nil: there is none. It applies to BeforeEndpoints, of
	// which Kept are also among Endpoints.
	Before                *Compiled
	BeforeEndpoints, Kept int
}

// WouldChange is the finding on a staged policy with what it would change.
func (c *Compiled) WouldChange(e StagedEffect) Finding {
	f := c.Finding
	switch {
	case !f.Accepted:
	case c.Deletes && e.Before == nil:
		f.Message += "; there is none"
	case c.Deletes:
		f.Message += "; it applies to " + count(e.Endpoints, "endpoint") + " on " + count(e.Nodes, "node") +
			c.directions(e, "would be open to all", "nothing would be open to all that is not now")
	case c.Selector == nil: // ignored
	default:
		f.Message += "; would apply to " + count(e.Endpoints, "endpoint") + " on " + count(e.Nodes, "node") + "; not enforced" +
			c.directions(e, "would no longer be open to all", "nothing would be limited that is open to all now")
		if e.Before != nil {
			f.Message += "; it would take the place of the " + c.standsFor() + ": " + c.differences(e)
		}
	}
	return f
}

func (c *Compiled) directions(e StagedEffect, what, nothing string) string {
	var parts []string
	if e.Ingress > 0 {
		parts = append(parts, "ingress of "+count(e.Ingress, "endpoint"))
	}
	if e.Egress > 0 {
		parts = append(parts, "egress of "+count(e.Egress, "endpoint"))
	}
	if len(parts) == 0 {
		return "; " + nothing
	}
	return "; " + strings.Join(parts, " and ") + " " + what
}

// differences are those to the policy that would be replaced.
func (c *Compiled) differences(e StagedEffect) string {
	var parts []string
	add := func(differs bool, what string) {
		if differs {
			parts = append(parts, what)
		}
	}
	add(e.Endpoints > e.Kept, count(e.Endpoints-e.Kept, "endpoint")+" more")
	add(e.BeforeEndpoints > e.Kept, count(e.BeforeEndpoints-e.Kept, "endpoint")+" fewer")
	add(c.Tier != e.Before.Tier, "another tier")
	add(c.Order != e.Before.Order, "another order")
	add(c.Ingress != e.Before.Ingress || c.Egress != e.Before.Egress, "other types")
	add(c.Stage != e.Before.Stage || c.Forward != e.Before.Forward, "another stage")
	add(!equality.Semantic.DeepEqual(c.proposed.Ingress, e.Before.Program.Ingress), "other ingress rules")
	add(!equality.Semantic.DeepEqual(c.proposed.Egress, e.Before.Program.Egress), "other egress rules")
	if len(parts) == 0 {
		return "no difference"
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
