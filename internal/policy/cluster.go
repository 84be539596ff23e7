package policy

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// Tiers of ClusterNetworkPolicies.
const (
	AdminTier    = "kube-admin"
	BaselineTier = "kube-baseline"
)

// ClusterNetworkPolicy compiles a ClusterNetworkPolicy of policy.networking.k8s.io.
func ClusterNetworkPolicy(p *clusterv1alpha2.ClusterNetworkPolicy) *Compiled {
	c := &Compiled{
		Ref:        Ref{Kind: KindClusterNetworkPolicy, Name: p.Name},
		UID:        p.UID,
		Generation: p.Generation,
		Tier:       AdminTier,
		Order:      float64(p.Spec.Priority),
		Ingress:    len(p.Spec.Ingress) > 0,
		Egress:     len(p.Spec.Egress) > 0,
	}
	if p.Spec.Tier == clusterv1alpha2.BaselineTier {
		c.Tier = BaselineTier
	}
	c.begin()
	spec := field.NewPath("spec")
	k := &clusterCompiler{kubernetesCompiler: kubernetesCompiler{sets: c.Sets}}
	if c.Selector = k.subject(spec.Child("subject"), p.Spec.Subject.Namespaces, p.Spec.Subject.Pods); len(k.errs) > 0 {
		return c.selectNothing(k.errs)
	}
	for i := range p.Spec.Ingress {
		r, path := &p.Spec.Ingress[i], spec.Child("ingress").Index(i)
		rule := k.begin(path, string(r.Action), clusterAction(r.Action))
		for j := range r.From {
			rule.peers(k.podPeer(path.Child("from").Index(j), r.From[j].Namespaces, r.From[j].Pods))
		}
		rule.matches = k.protocols(path.Child("protocols"), r.Protocols)
		c.Program.Ingress = append(c.Program.Ingress, rule.ingress()...)
	}
	for i := range p.Spec.Egress {
		r, path := &p.Spec.Egress[i], spec.Child("egress").Index(i)
		rule := k.begin(path, string(r.Action), clusterAction(r.Action))
		for j := range r.To {
			to := &r.To[j]
			rule.peers(k.egressPeer(path.Child("to").Index(j), texts(to.Networks), to.Nodes, len(to.DomainNames) > 0, to.Namespaces, to.Pods))
		}
		rule.matches = k.protocols(path.Child("protocols"), r.Protocols)
		c.Program.Egress = append(c.Program.Egress, rule.egress()...)
	}
	return k.finish(c)
}

// clusterAction is what rules do elsewhere; empty: an action that is not known.
func clusterAction(a clusterv1alpha2.ClusterNetworkPolicyRuleAction) v1alpha1.Action {
	switch a {
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return v1alpha1.Allow
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionDeny:
		return v1alpha1.Deny
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionPass:
		return v1alpha1.Pass
	}
	return ""
}

func texts[T ~string](list []T) []string {
	out := make([]string, 0, len(list))
	for _, t := range list {
		out = append(out, string(t))
	}
	return out
}

// clusterCompiler compiles the rules of one policy of policy.networking.k8s.io.
type clusterCompiler struct {
	kubernetesCompiler
	// unsupported are the parts that are not implemented, or of a newer version of the API. The rules in which they stand
	// fail closed as the API says: one that accepts matches nothing there, any other denies everything.
	unsupported field.ErrorList
}

// subject is whom a policy applies to.
func (k *clusterCompiler) subject(path *field.Path, namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod) *selector.Selector {
	who := k.pods(path, namespaces, pods)
	if who == nil && len(k.errs) == 0 {
		k.errs = append(k.errs, field.Required(path, "give namespaces or pods"))
	}
	return who
}

// finish is the end of compiling: what became of the policy.
func (k *clusterCompiler) finish(c *Compiled) *Compiled {
	if len(k.errs) > 0 {
		clear(c.Sets)
		return c.failClosed(k.errs)
	}
	c.Finding = accepted()
	if len(k.unsupported) > 0 {
		c.Finding = Finding{
			Reason: ReasonNotSupported,
			Message: joinProblems(k.unsupported) +
				"; until this is mended, of the rules concerned those that accept match nothing there, and the others deny everything",
		}
	}
	return c
}

// clusterRule is a rule while it is being compiled.
type clusterRule struct {
	compiler *clusterCompiler
	does     v1alpha1.Action
	// before is how much was unsupported before the rule.
	before  int
	from    []v1alpha1.EntityMatch
	matches []portMatch
}

// begin begins a rule. It does nothing that is known when does is empty.
func (k *clusterCompiler) begin(path *field.Path, action string, does v1alpha1.Action) *clusterRule {
	if does == "" {
		k.errs = append(k.errs, field.NotSupported(path.Child("action"), action, []string{"Accept (Allow in v1alpha1)", "Deny", "Pass (not in a baseline of v1alpha1)"}))
	}
	return &clusterRule{compiler: k, does: does, before: len(k.unsupported)}
}

func (r *clusterRule) peers(m []v1alpha1.EntityMatch) { r.from = append(r.from, m...) }

func (r *clusterRule) ingress() []v1alpha1.Rule {
	return r.rules(func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Source: m} })
}

func (r *clusterRule) egress() []v1alpha1.Rule {
	return r.rules(func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Destination: m} })
}

// rules makes one rule for each pair of peer and protocol.
func (r *clusterRule) rules(towards func(v1alpha1.EntityMatch) v1alpha1.Rule) []v1alpha1.Rule {
	understood := len(r.from) > 0 && len(r.compiler.unsupported) == r.before
	if !understood && r.does != v1alpha1.Allow {
		return []v1alpha1.Rule{{Action: v1alpha1.Deny}}
	}
	var out []v1alpha1.Rule
	for _, peer := range r.from {
		for _, m := range r.matches {
			rule := towards(peer)
			rule.Action, rule.Protocol = r.does, m.protocol
			rule.Destination.Ports, rule.Destination.NamedPorts = m.ranges, m.names
			out = append(out, rule)
		}
	}
	return out
}

// egressPeer is a peer that may also be given by networks, by nodes, or by names.
func (k *clusterCompiler) egressPeer(
	path *field.Path, networks []string, nodes *metav1.LabelSelector, byName bool, namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod,
) []v1alpha1.EntityMatch {
	switch {
	case len(networks) > 0:
		var m v1alpha1.EntityMatch
		for i, text := range networks {
			net, err := validate.ParseNet(text)
			if err != nil && !net.IsValid() {
				k.errs = append(k.errs, field.Invalid(path.Child("networks").Index(i), text, err.Error()))
				continue
			}
			m.Nets = append(m.Nets, net.String())
		}
		return []v1alpha1.EntityMatch{m}
	case nodes != nil:
		return k.member(Set{Nodes: k.labelSelector(path.Child("nodes"), nodes)})
	case byName:
		k.unsupported = append(k.unsupported, field.Forbidden(path.Child("domainNames"), "names are not supported: list addresses in networks"))
		return nil
	}
	return k.podPeer(path, namespaces, pods)
}

// member is a peer that belongs to a set.
func (k *clusterCompiler) member(s Set) []v1alpha1.EntityMatch {
	k.sets[s.ID()] = s
	return []v1alpha1.EntityMatch{{Sets: []string{s.ID()}}}
}

// podPeer is a peer that is given by namespaces or by pods; none when it is given by something else.
func (k *clusterCompiler) podPeer(path *field.Path, namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod) []v1alpha1.EntityMatch {
	s := k.pods(path, namespaces, pods)
	if s == nil {
		k.unsupported = append(k.unsupported, field.Required(path, "give namespaces or pods: anything else is of a newer version of this API"))
		return nil
	}
	return k.member(Set{Selector: s})
}

// pods selects the pods of namespaces, or some of them; nil if neither is given.
func (k *clusterCompiler) pods(path *field.Path, namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod) *selector.Selector {
	switch {
	case namespaces != nil:
		return selector.And(inNamespaces(k.labelSelector(path.Child("namespaces"), namespaces)), onlyPods())
	case pods != nil:
		path := path.Child("pods")
		return selector.And(inNamespaces(k.labelSelector(path.Child("namespaceSelector"), &pods.NamespaceSelector)), onlyPods(),
			k.labelSelector(path.Child("podSelector"), &pods.PodSelector))
	}
	return nil
}

// protocols are the alternatives by which a rule matches. Without any every packet matches.
func (k *clusterCompiler) protocols(path *field.Path, list []clusterv1alpha2.ClusterNetworkPolicyProtocol) []portMatch {
	if len(list) == 0 {
		return []portMatch{{}}
	}
	var out []portMatch
	for i := range list {
		path, p := path.Index(i), &list[i]
		add := func(number int32, name string, port *clusterv1alpha2.Port) {
			m := portMatch{protocol: &number}
			switch {
			case port != nil && port.Range != nil:
				m.ranges = k.portRange(path.Child(name, "destinationPort"), port.Range.Start, port.Range.End)
			case port != nil:
				m.ranges = k.portRange(path.Child(name, "destinationPort"), port.Number, port.Number)
			}
			out = append(out, m)
		}
		switch {
		case p.TCP != nil:
			add(validate.ProtocolTCP, "tcp", p.TCP.DestinationPort)
		case p.UDP != nil:
			add(validate.ProtocolUDP, "udp", p.UDP.DestinationPort)
		case p.SCTP != nil:
			add(validate.ProtocolSCTP, "sctp", p.SCTP.DestinationPort)
		case p.DestinationNamedPort != "":
			out = append(out, portMatch{names: []string{p.DestinationNamedPort}})
		default:
			k.unsupported = append(k.unsupported, field.Required(path, "give tcp, udp, sctp or destinationNamedPort: anything else is of a newer version of this API"))
		}
	}
	return out
}

func (k *clusterCompiler) portRange(path *field.Path, first, last int32) []v1alpha1.PortRange {
	if first < 1 || last > 65535 || first > last {
		k.errs = append(k.errs, field.Invalid(path, fmt.Sprintf("%d:%d", first, last), "give number, or range with start below end, from 1 to 65535"))
	}
	return []v1alpha1.PortRange{{First: first, Last: last}}
}
