package policy

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

// kubernetesOrder is the order of all NetworkPolicies of networking.k8s.io in the default tier.
const kubernetesOrder = 1000

// KubernetesNetworkPolicy compiles a NetworkPolicy of networking.k8s.io.
func KubernetesNetworkPolicy(p *networkingv1.NetworkPolicy) *Compiled {
	c := &Compiled{
		Ref:        Ref{Kind: KindKubernetesNetworkPolicy, Namespace: p.Namespace, Name: p.Name},
		UID:        p.UID,
		Generation: p.Generation,
		Tier:       DefaultTier,
		Order:      kubernetesOrder,
		Ingress:    len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress),
		Egress: len(p.Spec.PolicyTypes) == 0 && len(p.Spec.Egress) > 0 ||
			slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress),
	}
	c.begin()
	spec := field.NewPath("spec")
	k := &kubernetesCompiler{namespace: p.Namespace, sets: c.Sets}
	own := k.labelSelector(spec.Child("podSelector"), &p.Spec.PodSelector)
	if len(k.errs) > 0 {
		return c.selectNothing(k.errs)
	}
	c.Selector = selector.And(inNamespace(p.Namespace), onlyPods(), own)
	if c.Ingress {
		for i, r := range p.Spec.Ingress {
			path := spec.Child("ingress").Index(i)
			rules := k.rules(path, path.Child("from"), r.From, r.Ports, func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Source: m} })
			c.Program.Ingress = append(c.Program.Ingress, rules...)
		}
	}
	if c.Egress {
		for i, r := range p.Spec.Egress {
			path := spec.Child("egress").Index(i)
			rules := k.rules(path, path.Child("to"), r.To, r.Ports, func(m v1alpha1.EntityMatch) v1alpha1.Rule { return v1alpha1.Rule{Destination: m} })
			c.Program.Egress = append(c.Program.Egress, rules...)
		}
	}
	if len(k.errs) > 0 {
		clear(c.Sets)
		return c.failClosed(k.errs)
	}
	c.Finding = accepted()
	return c
}

// kubernetesCompiler compiles the rules of one policy. Its rules allow; what no rule allows, the end of the tier denies.
type kubernetesCompiler struct {
	namespace string
	sets      map[string]Set
	errs      field.ErrorList
}

// portMatch is the part of a rule that ports give: a protocol and ports of it.
type portMatch struct {
	protocol *int32
	ranges   []v1alpha1.PortRange
	names    []string
}

// rules makes one rule for each pair of peer and protocol, because the matches of one rule are all ANDed.
func (k *kubernetesCompiler) rules(
	path, peersPath *field.Path, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort,
	towards func(v1alpha1.EntityMatch) v1alpha1.Rule,
) []v1alpha1.Rule {
	matches := []v1alpha1.EntityMatch{{}}
	if len(peers) > 0 {
		matches = nil
		for i := range peers {
			matches = append(matches, k.peer(peersPath.Index(i), &peers[i]))
		}
	}
	var rules []v1alpha1.Rule
	protocols := k.ports(path.Child("ports"), ports)
	for _, m := range matches {
		for _, p := range protocols {
			r := towards(m)
			r.Action = v1alpha1.Allow
			r.Protocol = p.protocol
			r.Destination.Ports = p.ranges
			r.Destination.NamedPorts = p.names
			rules = append(rules, r)
		}
	}
	return rules
}

func (k *kubernetesCompiler) peer(path *field.Path, p *networkingv1.NetworkPolicyPeer) v1alpha1.EntityMatch {
	if p.IPBlock != nil {
		return k.ipBlock(path.Child("ipBlock"), p.IPBlock)
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		k.errs = append(k.errs, field.Required(path, "give ipBlock, podSelector or namespaceSelector"))
		return v1alpha1.EntityMatch{}
	}
	where, namespace := inNamespace(k.namespace), k.namespace
	if p.NamespaceSelector != nil {
		namespace = ""
		where = inNamespaces(k.labelSelector(path.Child("namespaceSelector"), p.NamespaceSelector))
	}
	who := selector.All()
	if p.PodSelector != nil {
		who = k.labelSelector(path.Child("podSelector"), p.PodSelector)
	}
	s := selector.And(where, onlyPods(), who)
	id := SetID(s)
	k.sets[id] = Set{Selector: s, Namespace: namespace}
	return v1alpha1.EntityMatch{Sets: []string{id}}
}

func (k *kubernetesCompiler) ipBlock(path *field.Path, b *networkingv1.IPBlock) v1alpha1.EntityMatch {
	net := func(path *field.Path, text string) []string {
		// Bits behind the prefix mean nothing here: this API has always let them pass.
		prefix, err := validate.ParseNet(text)
		if err != nil && !prefix.IsValid() {
			k.errs = append(k.errs, field.Invalid(path, text, err.Error()))
			return nil
		}
		return []string{prefix.String()}
	}
	m := v1alpha1.EntityMatch{Nets: net(path.Child("cidr"), b.CIDR)}
	for i, except := range b.Except {
		m.NotNets = append(m.NotNets, net(path.Child("except").Index(i), except)...)
	}
	return m
}

// ports groups ports by protocol, in order of their first mention. Without ports every packet matches.
func (k *kubernetesCompiler) ports(path *field.Path, list []networkingv1.NetworkPolicyPort) []portMatch {
	if len(list) == 0 {
		return []portMatch{{}}
	}
	var out []portMatch
	group := func(number int32, whole bool) *portMatch {
		for i := range out {
			if *out[i].protocol == number && whole == (out[i].ranges == nil && out[i].names == nil) {
				return &out[i]
			}
		}
		out = append(out, portMatch{protocol: &number})
		return &out[len(out)-1]
	}
	for i := range list {
		path, p := path.Index(i), &list[i]
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		known := k.protocol(path.Child("protocol"), protocol)
		if known == nil {
			continue
		}
		number := *known
		if p.Port == nil {
			group(number, true)
			continue
		}
		ranges, names := k.port(path, p)
		if ranges == nil && names == nil {
			continue
		}
		g := group(number, false)
		g.ranges = append(g.ranges, ranges...)
		g.names = append(g.names, names...)
	}
	return out
}

func (k *kubernetesCompiler) port(path *field.Path, p *networkingv1.NetworkPolicyPort) (ranges []v1alpha1.PortRange, names []string) {
	port := *p.Port
	if p.EndPort != nil {
		if port.Type == intstr.String {
			k.errs = append(k.errs, field.Forbidden(path.Child("endPort"), "endPort needs a port that is a number"))
			return nil, nil
		}
		port = intstr.FromString(fmt.Sprintf("%d:%d", port.IntVal, *p.EndPort))
	}
	got, err := validate.ParsePort(port)
	if err != nil {
		k.errs = append(k.errs, field.Invalid(path.Child("port"), p.Port.String(), err.Error()))
		return nil, nil
	}
	if got.Name != "" {
		return nil, []string{got.Name}
	}
	return []v1alpha1.PortRange{{First: got.First, Last: got.Last}}, nil
}

// protocol is the number of a protocol; nil: it is none with ports.
func (k *kubernetesCompiler) protocol(path *field.Path, p corev1.Protocol) *int32 {
	number, ok := ProtocolNumber(p)
	if !ok {
		k.errs = append(k.errs, field.NotSupported(path, p, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}))
		return nil
	}
	return &number
}

// ProtocolNumber is the IANA number of a protocol of Kubernetes' API; empty is TCP.
func ProtocolNumber(p corev1.Protocol) (int32, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return validate.ProtocolTCP, true
	case corev1.ProtocolUDP:
		return validate.ProtocolUDP, true
	case corev1.ProtocolSCTP:
		return validate.ProtocolSCTP, true
	}
	return 0, false
}

// onlyPods is fulfilled by pods and not by network sets, of which the Kubernetes API knows nothing.
func onlyPods() *selector.Selector { return selector.Equal(LabelOrchestrator, OrchestratorKubernetes) }

func (k *kubernetesCompiler) labelSelector(path *field.Path, s *metav1.LabelSelector) *selector.Selector {
	all := selector.All()
	for key, value := range s.MatchLabels {
		all = selector.And(all, selector.Equal(key, value))
	}
	for i, e := range s.MatchExpressions {
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			all = selector.And(all, selector.In(e.Key, e.Values...))
		case metav1.LabelSelectorOpNotIn:
			all = selector.And(all, selector.Not(selector.In(e.Key, e.Values...)))
		case metav1.LabelSelectorOpExists:
			all = selector.And(all, selector.Has(e.Key))
		case metav1.LabelSelectorOpDoesNotExist:
			all = selector.And(all, selector.Not(selector.Has(e.Key)))
		default:
			k.errs = append(k.errs, field.NotSupported(path.Child("matchExpressions").Index(i).Child("operator"), e.Operator,
				[]metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist}))
		}
	}
	return all
}
