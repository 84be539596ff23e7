package policy

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/api/v1alpha1"
)

// behindAllPriorities is the order of a BaselineAdminNetworkPolicy, which has no priority: behind those that have one, which
// goes up to 1,000.
const behindAllPriorities = 1001

// AdminNetworkPolicy compiles an AdminNetworkPolicy of policy.networking.k8s.io, the older form of a ClusterNetworkPolicy of the
// tier Admin.
func AdminNetworkPolicy(p *adminv1alpha1.AdminNetworkPolicy) *Compiled {
	c := &Compiled{
		Ref: Ref{Kind: KindAdminNetworkPolicy, Name: p.Name}, UID: p.UID, Generation: p.Generation,
		Tier: AdminTier, Order: float64(p.Spec.Priority), Ingress: len(p.Spec.Ingress) > 0, Egress: len(p.Spec.Egress) > 0,
	}
	var ingress, egress []adminRule
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		ingress = append(ingress, adminRule{string(r.Action), fromPeers(r.From), r.Ports})
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		egress = append(egress, adminRule{string(r.Action), r.To, r.Ports})
	}
	return c.compileAdmin(&p.Spec.Subject, ingress, egress, true)
}

// BaselineAdminNetworkPolicy compiles a BaselineAdminNetworkPolicy, the older form of a ClusterNetworkPolicy of the tier Baseline.
func BaselineAdminNetworkPolicy(p *adminv1alpha1.BaselineAdminNetworkPolicy) *Compiled {
	c := &Compiled{
		Ref: Ref{Kind: KindBaselineAdminNetworkPolicy, Name: p.Name}, UID: p.UID, Generation: p.Generation,
		Tier: BaselineTier, Order: behindAllPriorities, Ingress: len(p.Spec.Ingress) > 0, Egress: len(p.Spec.Egress) > 0,
	}
	var ingress, egress []adminRule
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		ingress = append(ingress, adminRule{string(r.Action), fromPeers(r.From), r.Ports})
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		rule := adminRule{string(r.Action), nil, r.Ports}
		for _, to := range r.To {
			rule.peers = append(rule.peers, adminv1alpha1.AdminNetworkPolicyEgressPeer{
				Namespaces: to.Namespaces, Pods: to.Pods, Nodes: to.Nodes, Networks: to.Networks,
			})
		}
		egress = append(egress, rule)
	}
	return c.compileAdmin(&p.Spec.Subject, ingress, egress, false)
}

// adminRule is a rule of either kind and direction.
type adminRule struct {
	action string
	peers  []adminv1alpha1.AdminNetworkPolicyEgressPeer
	ports  *[]adminv1alpha1.AdminNetworkPolicyPort
}

// fromPeers are peers of an ingress rule as those of egress rules, which can be more.
func fromPeers(from []adminv1alpha1.AdminNetworkPolicyIngressPeer) []adminv1alpha1.AdminNetworkPolicyEgressPeer {
	out := make([]adminv1alpha1.AdminNetworkPolicyEgressPeer, 0, len(from))
	for _, f := range from {
		out = append(out, adminv1alpha1.AdminNetworkPolicyEgressPeer{Namespaces: f.Namespaces, Pods: f.Pods})
	}
	return out
}

func (c *Compiled) compileAdmin(subject *adminv1alpha1.AdminNetworkPolicySubject, ingress, egress []adminRule, mayPass bool) *Compiled {
	c.begin()
	spec := field.NewPath("spec")
	k := &clusterCompiler{kubernetesCompiler: kubernetesCompiler{sets: c.Sets}}
	if c.Selector = k.subject(spec.Child("subject"), subject.Namespaces, newerForm(subject.Pods)); len(k.errs) > 0 {
		return c.selectNothing(k.errs)
	}
	for i := range ingress {
		rule := k.adminRule(spec.Child("ingress").Index(i), "from", &ingress[i], mayPass)
		c.Program.Ingress = append(c.Program.Ingress, rule.ingress()...)
	}
	for i := range egress {
		rule := k.adminRule(spec.Child("egress").Index(i), "to", &egress[i], mayPass)
		c.Program.Egress = append(c.Program.Egress, rule.egress()...)
	}
	return k.finish(c)
}

func (k *clusterCompiler) adminRule(path *field.Path, peers string, r *adminRule, mayPass bool) *clusterRule {
	rule := k.begin(path, r.action, adminAction(r.action, mayPass))
	for i := range r.peers {
		p := &r.peers[i]
		rule.peers(k.egressPeer(path.Child(peers).Index(i), texts(p.Networks), p.Nodes, len(p.DomainNames) > 0, p.Namespaces, newerForm(p.Pods)))
	}
	rule.matches = k.adminPorts(path.Child("ports"), r.ports)
	return rule
}

// adminAction is what a rule does; empty: an action that is not known. A baseline policy can't pass: nothing comes behind it.
func adminAction(action string, mayPass bool) v1alpha1.Action {
	switch a := v1alpha1.Action(action); a {
	case v1alpha1.Allow, v1alpha1.Deny:
		return a
	case v1alpha1.Pass:
		if mayPass {
			return a
		}
	case v1alpha1.Log: // not of this API
	}
	return ""
}

// newerForm is the same selection in the newer version of the API.
func newerForm(p *adminv1alpha1.NamespacedPod) *clusterv1alpha2.NamespacedPod {
	if p == nil {
		return nil
	}
	return &clusterv1alpha2.NamespacedPod{NamespaceSelector: p.NamespaceSelector, PodSelector: p.PodSelector}
}

// adminPorts are the alternatives by which a rule matches. Without any every packet matches.
func (k *clusterCompiler) adminPorts(path *field.Path, list *[]adminv1alpha1.AdminNetworkPolicyPort) []portMatch {
	if list == nil || len(*list) == 0 {
		return []portMatch{{}}
	}
	var out []portMatch
	for i := range *list {
		path, p := path.Index(i), &(*list)[i]
		switch {
		case p.PortNumber != nil:
			m := portMatch{ranges: k.portRange(path.Child("portNumber", "port"), p.PortNumber.Port, p.PortNumber.Port)}
			m.protocol = k.protocol(path.Child("portNumber", "protocol"), p.PortNumber.Protocol)
			out = append(out, m)
		case p.PortRange != nil:
			m := portMatch{ranges: k.portRange(path.Child("portRange"), p.PortRange.Start, p.PortRange.End)}
			m.protocol = k.protocol(path.Child("portRange", "protocol"), p.PortRange.Protocol)
			out = append(out, m)
		case p.NamedPort != nil && *p.NamedPort != "":
			out = append(out, portMatch{names: []string{*p.NamedPort}})
		default:
			k.unsupported = append(k.unsupported, field.Required(path, "give portNumber, portRange or namedPort: anything else is of a newer version of this API"))
		}
	}
	return out
}
