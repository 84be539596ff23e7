package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (u *users) kubernetesPolicy(p *networkingv1.NetworkPolicy) anyPolicy {
	types := p.Spec.PolicyTypes
	return anyPolicy{
		tier:  "default",
		order: 1000,
		tie:   p.Name + "/" + p.Namespace + "/KubernetesNetworkPolicy",
		pods: func(pod *corev1.Pod) bool {
			return pod.Namespace == p.Namespace && labelSelectorMatches(&p.Spec.PodSelector, pod.Labels)
		},
		ingress: len(types) == 0 || slices.Contains(types, networkingv1.PolicyTypeIngress),
		egress:  len(types) == 0 && len(p.Spec.Egress) > 0 || slices.Contains(types, networkingv1.PolicyTypeEgress),
		decide: func(packet Packet, ingress bool) action {
			if ingress {
				for _, r := range p.Spec.Ingress {
					if u.peersMatch(p.Namespace, r.From, packet.Source) && u.portsMatch(r.Ports, packet) {
						return allow
					}
				}
				return undecided
			}
			for _, r := range p.Spec.Egress {
				if u.peersMatch(p.Namespace, r.To, packet.Destination) && u.portsMatch(r.Ports, packet) {
					return allow
				}
			}
			return undecided
		},
	}
}

func (u *users) peersMatch(namespace string, peers []networkingv1.NetworkPolicyPeer, addr netip.Addr) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if peer.IPBlock != nil {
			return u.inAny([]string{peer.IPBlock.CIDR}, addr) && !u.inAny(peer.IPBlock.Except, addr)
		}
		return u.podAt(addr, func(pod *corev1.Pod) bool {
			if peer.NamespaceSelector == nil && pod.Namespace != namespace {
				return false
			}
			return (peer.NamespaceSelector == nil || labelSelectorMatches(peer.NamespaceSelector, u.namespaceLabels(pod.Namespace))) &&
				(peer.PodSelector == nil || labelSelectorMatches(peer.PodSelector, pod.Labels))
		})
	})
}

// podAt tells whether an address is that of a pod that fulfils a condition.
func (u *users) podAt(addr netip.Addr, is func(*corev1.Pod) bool) bool {
	return slices.ContainsFunc(u.ownersOf(addr), func(o *owner) bool { return o.pod != nil && is(o.pod) })
}

func (u *users) portsMatch(ports []networkingv1.NetworkPolicyPort, p Packet) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(port networkingv1.NetworkPolicyPort) bool {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		switch {
		case kubernetesProtocol(protocol) != p.Protocol:
			return false
		case port.Port == nil:
			return true
		case port.EndPort != nil:
			return int(port.Port.IntVal) <= p.DestinationPort && p.DestinationPort <= int(*port.EndPort)
		case port.Port.Type == intstr.Int:
			return int(port.Port.IntVal) == p.DestinationPort
		}
		return u.hasNamedPort(port.Port.StrVal, p.Destination, p.DestinationPort, p.Protocol)
	})
}

func labelSelectorMatches(s *metav1.LabelSelector, labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		got, ok := labels[e.Key]
		in := ok && slices.Contains(e.Values, got)
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			if !in {
				return false
			}
		case metav1.LabelSelectorOpNotIn:
			if in {
				return false
			}
		case metav1.LabelSelectorOpExists:
			if !ok {
				return false
			}
		case metav1.LabelSelectorOpDoesNotExist:
			if ok {
				return false
			}
		}
	}
	return true
}
