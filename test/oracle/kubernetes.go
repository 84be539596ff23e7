package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (w *World) kubernetesPolicy(p *networkingv1.NetworkPolicy) anyPolicy {
	types := p.Spec.PolicyTypes
	return anyPolicy{
		tier:  "default",
		order: 1000,
		tie:   p.Name + "/" + p.Namespace + "/KubernetesNetworkPolicy",
		selects: func(pod *corev1.Pod) bool {
			return pod.Namespace == p.Namespace && labelSelectorMatches(&p.Spec.PodSelector, pod.Labels)
		},
		ingress: len(types) == 0 || slices.Contains(types, networkingv1.PolicyTypeIngress),
		egress:  len(types) == 0 && len(p.Spec.Egress) > 0 || slices.Contains(types, networkingv1.PolicyTypeEgress),
		decide: func(_ *corev1.Pod, packet Packet, ingress bool) action {
			if ingress {
				for _, r := range p.Spec.Ingress {
					if w.peersMatch(p.Namespace, r.From, packet.Source) && w.portsMatch(r.Ports, packet) {
						return allow
					}
				}
				return ""
			}
			for _, r := range p.Spec.Egress {
				if w.peersMatch(p.Namespace, r.To, packet.Destination) && w.portsMatch(r.Ports, packet) {
					return allow
				}
			}
			return ""
		},
	}
}

func (w *World) peersMatch(namespace string, peers []networkingv1.NetworkPolicyPeer, addr netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if inAny([]string{peer.IPBlock.CIDR}, addr) && !inAny(peer.IPBlock.Except, addr) {
				return true
			}
			continue
		}
		for _, pod := range w.Pods {
			if !isEndpoint(pod) || !hasAddress(pod, addr) {
				continue
			}
			if peer.NamespaceSelector == nil {
				if pod.Namespace != namespace {
					continue
				}
			} else if !labelSelectorMatches(peer.NamespaceSelector, w.namespaceLabels(pod.Namespace)) {
				continue
			}
			if peer.PodSelector == nil || labelSelectorMatches(peer.PodSelector, pod.Labels) {
				return true
			}
		}
	}
	return false
}

func (w *World) portsMatch(ports []networkingv1.NetworkPolicyPort, p Packet) bool {
	if len(ports) == 0 {
		return true
	}
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		if kubernetesProtocol(protocol) != p.Protocol {
			continue
		}
		switch {
		case port.Port == nil:
			return true
		case port.EndPort != nil:
			if int(port.Port.IntVal) <= p.DestinationPort && p.DestinationPort <= int(*port.EndPort) {
				return true
			}
		case port.Port.Type == intstr.Int:
			if int(port.Port.IntVal) == p.DestinationPort {
				return true
			}
		default:
			if w.hasNamedPort(port.Port.StrVal, p.Destination, p.DestinationPort, p.Protocol) {
				return true
			}
		}
	}
	return false
}

func kubernetesProtocol(p corev1.Protocol) int {
	switch p {
	case corev1.ProtocolUDP:
		return 17
	case corev1.ProtocolSCTP:
		return 132
	default:
		return 6
	}
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
