package policy

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// NetworkPolicy compiles a NetworkPolicy of projectcalico.org.
func NetworkPolicy(p *v3.NetworkPolicy) *Compiled {
	c := &Compiled{
		Ref:        Ref{Kind: KindNetworkPolicy, Namespace: p.Namespace, Name: p.Name},
		UID:        p.UID,
		Generation: p.Generation,
		Tier:       tierOf(p.Spec.Tier),
		Order:      orderOf(p.Spec.Order),
	}
	c.begin()
	c.Ingress, c.Egress = directions(p.Spec.Types, len(p.Spec.Ingress) > 0, len(p.Spec.Egress) > 0)
	if errs := validate.NetworkPolicySelectors(p); len(errs) > 0 {
		return c.selectNothing(errs)
	}
	c.Selector = selector.And(inNamespace(p.Namespace), parsed(p.Spec.Selector))
	if p.Spec.ServiceAccountSelector != "" {
		c.Selector = selector.And(c.Selector, withServiceAccount(parsed(p.Spec.ServiceAccountSelector)))
	}
	if errs := validate.NetworkPolicy(p); len(errs) > 0 {
		return c.failClosed(errs)
	}
	return c.compileRules(p.Spec.Ingress, p.Spec.Egress)
}

// GlobalNetworkPolicy compiles a GlobalNetworkPolicy.
func GlobalNetworkPolicy(p *v3.GlobalNetworkPolicy) *Compiled {
	c := &Compiled{
		Ref:        Ref{Kind: KindGlobalNetworkPolicy, Name: p.Name},
		UID:        p.UID,
		Generation: p.Generation,
		Tier:       tierOf(p.Spec.Tier),
		Order:      orderOf(p.Spec.Order),
	}
	c.begin()
	c.Ingress, c.Egress = directions(p.Spec.Types, len(p.Spec.Ingress) > 0, len(p.Spec.Egress) > 0)
	c.Stage, c.Forward = stageOf(&p.Spec)
	if c.Stage == PreDNAT {
		c.Ingress, c.Egress = true, false // validation refuses anything else, and then all that comes in is dropped
	}
	if errs := validate.GlobalNetworkPolicySelectors(p); len(errs) > 0 {
		return c.selectNothing(errs)
	}
	c.Selector = parsed(p.Spec.Selector)
	if c.Stage != Filter {
		c.Selector = selector.And(c.Selector, inNoNamespace())
	}
	if p.Spec.NamespaceSelector != "" {
		c.Selector = selector.And(c.Selector, inNamespaces(parsed(p.Spec.NamespaceSelector)))
	}
	if p.Spec.ServiceAccountSelector != "" {
		c.Selector = selector.And(c.Selector, withServiceAccount(parsed(p.Spec.ServiceAccountSelector)))
	}
	if errs := validate.GlobalNetworkPolicy(p); len(errs) > 0 {
		return c.failClosed(errs)
	}
	return c.compileRules(p.Spec.Ingress, p.Spec.Egress)
}

// stageOf says at which point of a packet's way a policy decides, and whether it does on what a node passes on. A policy that
// asks for two stages, which validation refuses, drops packets in the earlier one.
func stageOf(s *v3.GlobalNetworkPolicySpec) (stage Stage, forward bool) {
	switch {
	case s.DoNotTrack:
		return Untracked, false
	case s.PreDNAT:
		return PreDNAT, false
	}
	return Filter, s.ApplyOnForward
}

// begin fills in what every program has.
func (c *Compiled) begin() {
	c.Sets = map[string]Set{}
	c.Program.Tier = c.Tier
	c.Program.Policy = v1alpha1.PolicyReference{
		Kind: c.Ref.Kind, Namespace: c.Ref.Namespace, Name: c.Ref.Name, UID: c.UID, Generation: c.Generation,
	}
}

// directions says in which directions a policy applies. Of types that validation refuses, both directions are
// assumed, since such a policy fails closed.
func directions(types []v3.PolicyType, ingressRules, egressRules bool) (ingress, egress bool) {
	if len(types) == 0 {
		return ingressRules || !egressRules, egressRules
	}
	ingress = slices.Contains(types, v3.PolicyTypeIngress)
	egress = slices.Contains(types, v3.PolicyTypeEgress)
	if !ingress && !egress {
		return true, true
	}
	return ingress, egress
}

// compileRules compiles the rules of the directions in which the policy applies.
func (c *Compiled) compileRules(ingress, egress []v3.Rule) *Compiled {
	r := &ruleCompiler{namespace: c.Ref.Namespace, sets: c.Sets}
	spec := field.NewPath("spec")
	if c.Ingress {
		c.Program.Ingress = r.rules(spec.Child("ingress"), ingress)
	}
	if c.Egress {
		c.Program.Egress = r.rules(spec.Child("egress"), egress)
	}
	c.Finding = accepted()
	if len(r.http) > 0 {
		c.Finding = httpNotEnforced(r.http)
	}
	return c
}

// parsed reads a selector that validation has let pass. Were it not so, the selector would match nothing.
func parsed(text string) *selector.Selector {
	s, err := selector.Parse(text)
	if err != nil {
		return selector.Not(selector.All())
	}
	return s
}
