package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// clusterRule is a rule of the cluster-wide kinds of policy.networking.k8s.io, one direction of it.
type clusterRule struct {
	action action
	// peers and ports that the rule lists. Of what is not understood there is nothing, but understood is false.
	peers      []func(addr netip.Addr) bool
	ports      []func(p Packet) bool
	allPorts   bool
	understood bool
}

// decide as that API says: a rule that is not understood accepts nothing by what is not understood, or else denies everything.
func (r *clusterRule) decide(addr netip.Addr, p Packet) action {
	if !r.understood && r.action != allow {
		return deny
	}
	is := slices.ContainsFunc(r.peers, func(f func(netip.Addr) bool) bool { return f(addr) }) &&
		(r.allPorts || slices.ContainsFunc(r.ports, func(f func(Packet) bool) bool { return f(p) }))
	if is {
		return r.action
	}
	return undecided
}

func (r *clusterRule) peer(f func(netip.Addr) bool) {
	if f == nil {
		r.understood = false
		return
	}
	r.peers = append(r.peers, f)
}

func (r *clusterRule) port(f func(Packet) bool) {
	if f == nil {
		r.understood = false
		return
	}
	r.ports = append(r.ports, f)
}

// clusterWide is what these kinds have in common.
func (u *users) clusterWide(tier, tie string, order float64, subject func(*corev1.Pod) bool, ingress, egress []*clusterRule) anyPolicy {
	return anyPolicy{
		tier: tier, order: order, tie: tie, pods: subject,
		ingress: len(ingress) > 0, egress: len(egress) > 0,
		decide: func(p Packet, isIngress bool) action {
			rules, addr := egress, p.Destination
			if isIngress {
				rules, addr = ingress, p.Source
			}
			for _, r := range rules {
				if a := r.decide(addr, p); a != undecided {
					return a
				}
			}
			return undecided
		},
	}
}

func (u *users) clusterPolicy(p *clusterv1alpha2.ClusterNetworkPolicy) anyPolicy {
	tier := "kube-admin"
	if p.Spec.Tier == clusterv1alpha2.BaselineTier {
		tier = "kube-baseline"
	}
	var ingress, egress []*clusterRule
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		rule := u.clusterRule(r.Action, r.Protocols)
		for _, peer := range r.From {
			rule.peer(u.podPeer(peer.Namespaces, u.namespacedPod(peer.Pods)))
		}
		ingress = append(ingress, rule)
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		rule := u.clusterRule(r.Action, r.Protocols)
		for _, peer := range r.To {
			switch {
			case len(peer.Networks) > 0:
				rule.peer(func(addr netip.Addr) bool { return u.inAny(texts(peer.Networks), addr) })
			case peer.Nodes != nil:
				rule.peer(u.nodePeer(peer.Nodes))
			default:
				rule.peer(u.podPeer(peer.Namespaces, u.namespacedPod(peer.Pods)))
			}
		}
		egress = append(egress, rule)
	}
	subject := u.podSubject(p.Spec.Subject.Namespaces, u.namespacedPod(p.Spec.Subject.Pods))
	return u.clusterWide(tier, p.Name+"//ClusterNetworkPolicy", float64(p.Spec.Priority), subject, ingress, egress)
}

func (u *users) clusterRule(a clusterv1alpha2.ClusterNetworkPolicyRuleAction, protocols []clusterv1alpha2.ClusterNetworkPolicyProtocol) *clusterRule {
	r := &clusterRule{action: action(a), allPorts: len(protocols) == 0, understood: true}
	if a == clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept {
		r.action = allow
	}
	for _, x := range protocols {
		on := func(number int, port *clusterv1alpha2.Port) {
			r.port(func(p Packet) bool {
				return p.Protocol == number && (port == nil || port.Range == nil && int(port.Number) == p.DestinationPort ||
					port.Range != nil && int(port.Range.Start) <= p.DestinationPort && p.DestinationPort <= int(port.Range.End))
			})
		}
		switch {
		case x.TCP != nil:
			on(TCP, x.TCP.DestinationPort)
		case x.UDP != nil:
			on(UDP, x.UDP.DestinationPort)
		case x.SCTP != nil:
			on(SCTP, x.SCTP.DestinationPort)
		case x.DestinationNamedPort != "":
			r.port(func(p Packet) bool {
				return u.hasNamedPort(x.DestinationNamedPort, p.Destination, p.DestinationPort, p.Protocol)
			})
		default:
			r.port(nil)
		}
	}
	return r
}

// podSelection is a selection of pods in selected namespaces.
type podSelection struct{ namespaces, pods metav1.LabelSelector }

func (u *users) namespacedPod(p *clusterv1alpha2.NamespacedPod) *podSelection {
	if p == nil {
		return nil
	}
	return &podSelection{p.NamespaceSelector, p.PodSelector}
}

func (u *users) namespacedPodV1(p *adminv1alpha1.NamespacedPod) *podSelection {
	if p == nil {
		return nil
	}
	return &podSelection{p.NamespaceSelector, p.PodSelector}
}

// podSubject selects the pods of namespaces, or some of them.
func (u *users) podSubject(namespaces *metav1.LabelSelector, pods *podSelection) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		in := u.namespaceLabels(pod.Namespace)
		return namespaces != nil && labelSelectorMatches(namespaces, in) ||
			pods != nil && labelSelectorMatches(&pods.namespaces, in) && labelSelectorMatches(&pods.pods, pod.Labels)
	}
}

func (u *users) podPeer(namespaces *metav1.LabelSelector, pods *podSelection) func(netip.Addr) bool {
	if namespaces == nil && pods == nil {
		return nil // of a newer version of the API
	}
	is := u.podSubject(namespaces, pods)
	return func(addr netip.Addr) bool { return u.podAt(addr, is) }
}

// nodePeer is fulfilled by the addresses of nodes.
func (u *users) nodePeer(s *metav1.LabelSelector) func(netip.Addr) bool {
	return func(addr netip.Addr) bool {
		return slices.ContainsFunc(u.Nodes, func(n *corev1.Node) bool {
			return labelSelectorMatches(s, n.Labels) && slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Address == addr.String() })
		})
	}
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, x := range list {
		out = append(out, string(x))
	}
	return out
}
