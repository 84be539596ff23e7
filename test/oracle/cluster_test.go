package oracle_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/manul-net/manul/test/oracle"
)

func drawClusterPolicy(t *rapid.T, i int) *clusterv1alpha2.ClusterNetworkPolicy {
	p := &clusterv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)},
		Spec: clusterv1alpha2.ClusterNetworkPolicySpec{
			Tier:     pick(t, []clusterv1alpha2.Tier{clusterv1alpha2.AdminTier, clusterv1alpha2.BaselineTier}, "tier"),
			Priority: pick(t, []int32{0, 10, 1000, 10}, "priority"),
		},
	}
	p.Spec.Subject.Namespaces, p.Spec.Subject.Pods = drawClusterPeer(t)
	for range upTo(t, 2, "ingress rules") {
		r := clusterv1alpha2.ClusterNetworkPolicyIngressRule{Action: drawClusterAction(t), Protocols: drawClusterProtocols(t)}
		for range 1 + upTo(t, 1, "peers") {
			var peer clusterv1alpha2.ClusterNetworkPolicyIngressPeer
			if !chance(t, 5, "of a newer version") {
				peer.Namespaces, peer.Pods = drawClusterPeer(t)
			}
			r.From = append(r.From, peer)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	for range upTo(t, 2, "egress rules") {
		r := clusterv1alpha2.ClusterNetworkPolicyEgressRule{Action: drawClusterAction(t), Protocols: drawClusterProtocols(t)}
		for range 1 + upTo(t, 1, "peers") {
			r.To = append(r.To, drawClusterTo(t))
		}
		p.Spec.Egress = append(p.Spec.Egress, r)
	}
	return p
}

func drawClusterTo(t *rapid.T) clusterv1alpha2.ClusterNetworkPolicyEgressPeer {
	var peer clusterv1alpha2.ClusterNetworkPolicyEgressPeer
	switch kind := drawKindOfPeer(t); kind {
	case "networks":
		peer.Networks = distinct(some(t, []clusterv1alpha2.CIDR{"10.0.0.0/30", "192.0.2.0/24", "0.0.0.0/0", "fd00::/126", "2001:db8::/32"}, 2, "network"))
	case "nodes":
		peer.Nodes = drawLabelSelector(t)
	case "names":
		peer.DomainNames = []clusterv1alpha2.DomainName{"example.com"}
	default:
		peer.Namespaces, peer.Pods = drawClusterPeer(t)
	}
	return peer
}

// drawKindOfPeer draws names seldom: nobody understands them.
func drawKindOfPeer(t *rapid.T) string {
	switch n := bits(t, 5, "kind of peer"); {
	case n < 14:
		return "pods"
	case n < 24:
		return "networks"
	case n < 30:
		return "nodes"
	}
	return "names"
}

func drawClusterAction(t *rapid.T) clusterv1alpha2.ClusterNetworkPolicyRuleAction {
	return pick(t, []clusterv1alpha2.ClusterNetworkPolicyRuleAction{
		clusterv1alpha2.ClusterNetworkPolicyRuleActionAccept, clusterv1alpha2.ClusterNetworkPolicyRuleActionDeny, clusterv1alpha2.ClusterNetworkPolicyRuleActionPass,
	}, "action")
}

func drawClusterPeer(t *rapid.T) (*metav1.LabelSelector, *clusterv1alpha2.NamespacedPod) {
	if chance(t, 50, "namespaces") {
		return drawLabelSelector(t), nil
	}
	return nil, &clusterv1alpha2.NamespacedPod{NamespaceSelector: *drawLabelSelector(t), PodSelector: *drawLabelSelector(t)}
}

func drawClusterProtocols(t *rapid.T) []clusterv1alpha2.ClusterNetworkPolicyProtocol {
	if chance(t, 40, "all protocols") {
		return nil
	}
	port := pick(t, []*clusterv1alpha2.Port{nil, {Number: 80}, {Range: &clusterv1alpha2.PortRange{Start: 50, End: 80}}}, "port")
	return some(t, []clusterv1alpha2.ClusterNetworkPolicyProtocol{
		{TCP: &clusterv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}},
		{UDP: &clusterv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}},
		{DestinationNamedPort: pick(t, portNames(), "name")},
		{SCTP: &clusterv1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}},
	}, 2, "protocol")
}

func drawAdminPolicies(t *rapid.T, w *oracle.World) {
	for i := range upTo(t, 2, "admin policies") {
		p := &adminv1alpha1.AdminNetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("a%d", i)},
			Spec:       adminv1alpha1.AdminNetworkPolicySpec{Priority: pick(t, []int32{0, 10, 1000, 10}, "priority"), Subject: drawAdminSubject(t)},
		}
		act := func() adminv1alpha1.AdminNetworkPolicyRuleAction {
			return pick(t, []adminv1alpha1.AdminNetworkPolicyRuleAction{"Allow", "Deny", "Pass"}, "action")
		}
		for range upTo(t, 2, "ingress rules") {
			p.Spec.Ingress = append(p.Spec.Ingress, adminv1alpha1.AdminNetworkPolicyIngressRule{Action: act(), From: drawAdminFrom(t), Ports: drawAdminPorts(t)})
		}
		for range upTo(t, 2, "egress rules") {
			p.Spec.Egress = append(p.Spec.Egress, adminv1alpha1.AdminNetworkPolicyEgressRule{Action: act(), To: drawAdminTo(t), Ports: drawAdminPorts(t)})
		}
		w.AdminPolicies = append(w.AdminPolicies, p)
	}
	if !chance(t, 30, "baseline admin policy") {
		return
	}
	p := &adminv1alpha1.BaselineAdminNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	p.Spec.Subject = drawAdminSubject(t)
	act := func() adminv1alpha1.BaselineAdminNetworkPolicyRuleAction {
		return pick(t, []adminv1alpha1.BaselineAdminNetworkPolicyRuleAction{"Deny", "Allow"}, "action")
	}
	for range upTo(t, 2, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, adminv1alpha1.BaselineAdminNetworkPolicyIngressRule{Action: act(), From: drawAdminFrom(t), Ports: drawAdminPorts(t)})
	}
	for range upTo(t, 2, "egress rules") {
		r := adminv1alpha1.BaselineAdminNetworkPolicyEgressRule{Action: act(), Ports: drawAdminPorts(t)}
		for _, to := range drawAdminTo(t) {
			r.To = append(r.To, adminv1alpha1.BaselineAdminNetworkPolicyEgressPeer{Namespaces: to.Namespaces, Pods: to.Pods, Nodes: to.Nodes, Networks: to.Networks})
		}
		p.Spec.Egress = append(p.Spec.Egress, r)
	}
	w.BaselineAdminPolicies = append(w.BaselineAdminPolicies, p)
}

func drawAdminPeer(t *rapid.T) (*metav1.LabelSelector, *adminv1alpha1.NamespacedPod) {
	namespaces, pods := drawClusterPeer(t)
	if pods == nil {
		return namespaces, nil
	}
	return nil, &adminv1alpha1.NamespacedPod{NamespaceSelector: pods.NamespaceSelector, PodSelector: pods.PodSelector}
}

func drawAdminSubject(t *rapid.T) (s adminv1alpha1.AdminNetworkPolicySubject) {
	s.Namespaces, s.Pods = drawAdminPeer(t)
	return s
}

func drawAdminFrom(t *rapid.T) []adminv1alpha1.AdminNetworkPolicyIngressPeer {
	var out []adminv1alpha1.AdminNetworkPolicyIngressPeer
	for range 1 + upTo(t, 1, "peers") {
		var peer adminv1alpha1.AdminNetworkPolicyIngressPeer
		if !chance(t, 5, "of a newer version") {
			peer.Namespaces, peer.Pods = drawAdminPeer(t)
		}
		out = append(out, peer)
	}
	return out
}

func drawAdminTo(t *rapid.T) []adminv1alpha1.AdminNetworkPolicyEgressPeer {
	var out []adminv1alpha1.AdminNetworkPolicyEgressPeer
	for range 1 + upTo(t, 1, "peers") {
		var peer adminv1alpha1.AdminNetworkPolicyEgressPeer
		switch drawKindOfPeer(t) {
		case "networks":
			peer.Networks = distinct(some(t, []adminv1alpha1.CIDR{"10.0.0.0/30", "192.0.2.0/24", "0.0.0.0/0", "fd00::/126", "2001:db8::/32"}, 2, "network"))
		case "nodes":
			peer.Nodes = drawLabelSelector(t)
		case "names":
			peer.DomainNames = []adminv1alpha1.DomainName{"example.com"}
		default:
			peer.Namespaces, peer.Pods = drawAdminPeer(t)
		}
		out = append(out, peer)
	}
	return out
}

func drawAdminPorts(t *rapid.T) *[]adminv1alpha1.AdminNetworkPolicyPort {
	if chance(t, 40, "all ports") {
		return nil
	}
	protocol := pick(t, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, "protocol")
	return new(some(t, []adminv1alpha1.AdminNetworkPolicyPort{
		{PortNumber: &adminv1alpha1.Port{Protocol: protocol, Port: 80}},
		{PortRange: &adminv1alpha1.PortRange{Protocol: protocol, Start: 50, End: 80}},
		{NamedPort: new(pick(t, portNames(), "name"))},
	}, 2, "port"))
}
