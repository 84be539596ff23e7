package oracle_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

func drawKubernetesPolicy(t *rapid.T, i int) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("k%d", i)},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: *drawLabelSelector(t)},
	}
	p.Spec.PolicyTypes = pick(t, [][]networkingv1.PolicyType{
		nil, {networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}, {networkingv1.PolicyTypeIngress}, {networkingv1.PolicyTypeEgress},
	}, "types")
	for range upTo(t, 2, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawPeers(t), Ports: drawKubernetesPorts(t)})
	}
	for range upTo(t, 2, "egress rules") {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawPeers(t), Ports: drawKubernetesPorts(t)})
	}
	return p
}

func drawLabelSelector(t *rapid.T) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if chance(t, 40, "match labels") {
		s.MatchLabels = map[string]string{pick(t, keys(), "key"): pick(t, values(), "value")}
	}
	if chance(t, 25, "match expressions") {
		e := metav1.LabelSelectorRequirement{
			Key:      pick(t, keys(), "key"),
			Operator: pick(t, []metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist}, "operator"),
		}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = []string{pick(t, values(), "value"), "b"}
		}
		s.MatchExpressions = []metav1.LabelSelectorRequirement{e}
	}
	return s
}

func drawPeers(t *rapid.T) []networkingv1.NetworkPolicyPeer {
	blocks := []networkingv1.IPBlock{
		{CIDR: "10.0.0.0/8", Except: []string{"10.0.0.0/30"}},
		{CIDR: "192.0.2.0/24"},
		{CIDR: "0.0.0.0/0", Except: []string{"203.0.113.0/24", "10.0.0.2/32"}},
		{CIDR: "fd00::/64", Except: []string{"fd00::2/127"}},
		{CIDR: "::/0"},
	}
	var out []networkingv1.NetworkPolicyPeer
	for range upTo(t, 2, "peers") {
		switch pick(t, []string{"namespaces", "block", "pods", "both"}, "peer") {
		case "block":
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: new(pick(t, blocks, "block"))})
		case "pods":
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: drawLabelSelector(t)})
		case "namespaces":
			out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: drawLabelSelector(t)})
		default:
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: drawLabelSelector(t), NamespaceSelector: drawLabelSelector(t)})
		}
	}
	return out
}

func drawKubernetesPorts(t *rapid.T) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for range upTo(t, 2, "ports") {
		p := networkingv1.NetworkPolicyPort{Protocol: pick(t, []*corev1.Protocol{nil, new(corev1.ProtocolUDP), new(corev1.ProtocolSCTP), new(corev1.ProtocolTCP)}, "protocol")}
		switch pick(t, []string{"none", "number", "range", "name"}, "port") {
		case "number":
			p.Port = new(intstr.FromInt32(80))
		case "range":
			p.Port, p.EndPort = new(intstr.FromInt32(50)), new(int32(80))
		case "name":
			p.Port = new(intstr.FromString(pick(t, portNames(), "name")))
		}
		out = append(out, p)
	}
	return out
}

func drawSlices(t *rapid.T) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for i := range 1 + upTo(t, 4, "endpoint slices") {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: pick(t, serviceNamespaces(), "namespace"), Name: fmt.Sprintf("slice%d", i)},
			AddressType: pick(t, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}, "address type"),
		}
		if chance(t, 95, "has a service") {
			s.Labels = map[string]string{discoveryv1.LabelServiceName: pick(t, services(), "service")}
		}
		v4 := s.AddressType == discoveryv1.AddressTypeIPv4
		addrs := []string{podAddress(0, v4), podAddress(1, v4), podAddress(2, v4), podAddress(3, v4), front(v4).String()}
		for range upTo(t, 3, "endpoints") {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{pick(t, addrs, "address")},
				Conditions: discoveryv1.EndpointConditions{Ready: pick(t, []*bool{new(true), nil, new(false)}, "ready")},
			})
		}
		for range 1 + upTo(t, 2, "ports") - upTo(t, 1, "no ports") {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{
				Port:     pick(t, []*int32{new(int32(80)), new(int32(53)), new(int32(8080)), nil}, "port"),
				Protocol: pick(t, []*corev1.Protocol{nil, new(corev1.ProtocolTCP), new(corev1.ProtocolUDP), new(corev1.ProtocolSCTP)}, "protocol"),
			})
		}
		out = append(out, s)
	}
	return out
}
