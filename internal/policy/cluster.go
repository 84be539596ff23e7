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
	who := k.pods(spec.Child("subject"), p.Spec.Subject.Namespaces, p.Spec.Subject.Pods)
	if who == nil && len(k.errs) == 0 {
		k.errs = append(k.errs, field.Required(spec.Child("subject"), "give namespaces or pods"))
	}
	if len(k.errs) > 0 {
		return c.selectNothing(k.errs)
	}
	c.Selector = who
	for i := range p.Spec.Ingress {
		r, path := &p.Spec.Ingress[i], spec.Child("ingress").Index(i)
		var peers []v1alpha1.EntityMatch
		for j := range r.From {
			peers = append(peers, k.podPeer(path.Child("from").Index(j), r.From[j].Namespaces, r.From[j].Pods)...)
		}
		c.Program.Ingress = append(c.Program.Ingress, k.rules(path, r.Action, len(r.From), peers, r.Protocols,
			func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Source: m} })...)
	}
	for i := range p.Spec.Egress {
		r, path := &p.Spec.Egress[i], spec.Child("egress").Index(i)
		var peers []v1alpha1.EntityMatch
		for j := range r.To {
			peers = append(peers, k.egressPeer(path.Child("to").Index(j), &r.To[j])...)
		}
		c.Program.Egress = append(c.Program.Egress, k.rules(path, r.Action, len(r.To), peers, r.Protocols,
			func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Destination: m} })...)
	}
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

// clusterCompiler compiles the rules of one ClusterNetworkPolicy.
type clusterCompiler struct {
	kubernetesCompiler
	// unsupported are the parts that are not implemented, or of a newer version of the API. The rules in which they stand
	// fail closed as the API says: one that accepts matches nothing there, any other denies everything.
	unsupported field.ErrorList
}

// rules makes one rule for each pair of peer and protocol. listed is how many peers the user wrote.
func (k *clusterCompiler) rules(
	path *field.Path, action clusterv1alpha2.ClusterNetworkPolicyRuleAction, listed int, peers []v1alpha1.EntityMatch,
	protocols []clusterv1alpha2.ClusterNetworkPolicyProtocol, towards func(v1alpha1.EntityMatch) v1alpha1.Rule,
) []v1alpha1.Rule {
	var does v1alpha1.Action
	switch action {
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		does = v1alpha1.Allow
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionDeny:
		does = v1alpha1.Deny
	case clusterv1alpha2.ClusterNetworkPolicyRuleActionPass:
		does = v1alpha1.Pass
	default:
		k.errs = append(k.errs, field.NotSupported(path.Child("action"), action, []string{"Accept", "Deny", "Pass"}))
		return nil
	}
	before := len(k.unsupported)
	matches := k.protocols(path.Child("protocols"), protocols)
	understood := listed > 0 && len(peers) >= listed && len(k.unsupported) == before
	if !understood && does != v1alpha1.Allow {
		return []v1alpha1.Rule{{Action: v1alpha1.Deny}}
	}
	var out []v1alpha1.Rule
	for _, peer := range peers {
		for _, m := range matches {
			r := towards(peer)
			r.Action, r.Protocol = does, m.protocol
			r.Destination.Ports, r.Destination.NamedPorts = m.ranges, m.names
			out = append(out, r)
		}
	}
	return out
}

func (k *clusterCompiler) egressPeer(path *field.Path, p *clusterv1alpha2.ClusterNetworkPolicyEgressPeer) []v1alpha1.EntityMatch {
	switch {
	case len(p.Networks) > 0:
		var m v1alpha1.EntityMatch
		for i, text := range p.Networks {
			net, err := validate.ParseNet(string(text))
			if err != nil && !net.IsValid() {
				k.errs = append(k.errs, field.Invalid(path.Child("networks").Index(i), text, err.Error()))
				continue
			}
			m.Nets = append(m.Nets, net.String())
		}
		return []v1alpha1.EntityMatch{m}
	case p.Nodes != nil:
		k.unsupported = append(k.unsupported, field.Forbidden(path.Child("nodes"), "nodes as peers are not supported: list their addresses in networks"))
		return nil
	case len(p.DomainNames) > 0:
		k.unsupported = append(k.unsupported, field.Forbidden(path.Child("domainNames"), "names are not supported: list addresses in networks"))
		return nil
	}
	return k.podPeer(path, p.Namespaces, p.Pods)
}

// podPeer is a peer that is given by namespaces or by pods; none when it is given by something else.
func (k *clusterCompiler) podPeer(path *field.Path, namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod) []v1alpha1.EntityMatch {
	s := k.pods(path, namespaces, pods)
	if s == nil {
		k.unsupported = append(k.unsupported, field.Required(path, "give namespaces or pods: anything else is of a newer version of this API"))
		return nil
	}
	set := Set{Selector: s}
	k.sets[set.ID()] = set
	return []v1alpha1.EntityMatch{{Sets: []string{set.ID()}}}
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
			if port != nil {
				m.ranges = k.portRange(path.Child(name, "destinationPort"), port)
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

func (k *clusterCompiler) portRange(path *field.Path, p *clusterv1alpha2.Port) []v1alpha1.PortRange {
	r := v1alpha1.PortRange{First: p.Number, Last: p.Number}
	if p.Range != nil {
		r = v1alpha1.PortRange{First: p.Range.Start, Last: p.Range.End}
	}
	if r.First < 1 || r.Last > 65535 || r.First > r.Last {
		k.errs = append(k.errs, field.Invalid(path, fmt.Sprintf("%d:%d", r.First, r.Last), "give number, or range with start below end, from 1 to 65535"))
	}
	return []v1alpha1.PortRange{r}
}
