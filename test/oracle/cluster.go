package oracle

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func (w *World) clusterPolicy(p *clusterv1alpha2.ClusterNetworkPolicy) anyPolicy {
	tier := "kube-admin"
	if p.Spec.Tier == clusterv1alpha2.BaselineTier {
		tier = "kube-baseline"
	}
	return anyPolicy{
		tier:  tier,
		order: float64(p.Spec.Priority),
		tie:   p.Name + "//ClusterNetworkPolicy",
		selects: func(pod *corev1.Pod) bool {
			return w.isClusterPeer(p.Spec.Subject.Namespaces, p.Spec.Subject.Pods, pod)
		},
		ingress: len(p.Spec.Ingress) > 0,
		egress:  len(p.Spec.Egress) > 0,
		decide: func(_ *corev1.Pod, packet Packet, ingress bool) action {
			if ingress {
				for _, r := range p.Spec.Ingress {
					matched, understood := false, true
					for _, peer := range r.From {
						matched = matched || w.hasClusterPeer(peer.Namespaces, peer.Pods, packet.Source)
						understood = understood && (peer.Namespaces != nil || peer.Pods != nil)
					}
					if a := clusterAction(r.Action, matched && w.clusterProtocolMatches(r.Protocols, packet), understood); a != "" {
						return a
					}
				}
				return ""
			}
			for _, r := range p.Spec.Egress {
				matched, understood := false, true
				for _, peer := range r.To {
					for _, net := range peer.Networks {
						matched = matched || inAny([]string{string(net)}, packet.Destination)
					}
					matched = matched || w.hasClusterPeer(peer.Namespaces, peer.Pods, packet.Destination)
					understood = understood && (peer.Namespaces != nil || peer.Pods != nil || len(peer.Networks) > 0)
				}
				if a := clusterAction(r.Action, matched && w.clusterProtocolMatches(r.Protocols, packet), understood); a != "" {
					return a
				}
			}
			return ""
		},
	}
}

// clusterAction is what a rule does; "" when it does not match. A rule that is not understood accepts nothing more than
// what it is understood to accept, or else denies everything.
func clusterAction(a clusterv1alpha2.ClusterNetworkPolicyRuleAction, matched, understood bool) action {
	switch {
	case a == clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept && matched:
		return allow
	case a == clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return ""
	case !understood:
		return deny
	case matched:
		return action(a)
	}
	return ""
}

func (w *World) hasClusterPeer(namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod, addr netip.Addr) bool {
	for _, pod := range w.Pods {
		if isEndpoint(pod) && hasAddress(pod, addr) && w.isClusterPeer(namespaces, pods, pod) {
			return true
		}
	}
	return false
}

func (w *World) isClusterPeer(namespaces *metav1.LabelSelector, pods *clusterv1alpha2.NamespacedPod, pod *corev1.Pod) bool {
	if namespaces != nil {
		return labelSelectorMatches(namespaces, w.namespaceLabels(pod.Namespace))
	}
	return pods != nil && labelSelectorMatches(&pods.NamespaceSelector, w.namespaceLabels(pod.Namespace)) && labelSelectorMatches(&pods.PodSelector, pod.Labels)
}

func (w *World) clusterProtocolMatches(list []clusterv1alpha2.ClusterNetworkPolicyProtocol, p Packet) bool {
	if len(list) == 0 {
		return true
	}
	in := func(port *clusterv1alpha2.Port) bool {
		switch {
		case port == nil:
			return true
		case port.Range != nil:
			return int(port.Range.Start) <= p.DestinationPort && p.DestinationPort <= int(port.Range.End)
		}
		return int(port.Number) == p.DestinationPort
	}
	for _, x := range list {
		switch {
		case x.TCP != nil && p.Protocol == 6 && in(x.TCP.DestinationPort),
			x.UDP != nil && p.Protocol == 17 && in(x.UDP.DestinationPort),
			x.SCTP != nil && p.Protocol == 132 && in(x.SCTP.DestinationPort),
			x.DestinationNamedPort != "" && w.hasNamedPort(x.DestinationNamedPort, p.Destination, p.DestinationPort, p.Protocol):
			return true
		}
	}
	return false
}
