package oracle_test

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func drawClusterPolicy(t *rapid.T, i int) *clusterv1alpha2.ClusterNetworkPolicy {
	p := &clusterv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)},
		Spec: clusterv1alpha2.ClusterNetworkPolicySpec{
			Tier:     pick(t, []clusterv1alpha2.Tier{clusterv1alpha2.AdminTier, clusterv1alpha2.BaselineTier}, "tier"),
			Priority: pick(t, []int32{0, 10, 10, 1000}, "priority"),
		},
	}
	p.Spec.Subject.Namespaces, p.Spec.Subject.Pods = drawClusterPeer(t)
	for range rapid.IntRange(0, 2).Draw(t, "ingress rules") {
		r := clusterv1alpha2.ClusterNetworkPolicyIngressRule{Action: drawClusterAction(t), Protocols: drawClusterProtocols(t)}
		for range rapid.IntRange(1, 2).Draw(t, "peers") {
			var peer clusterv1alpha2.ClusterNetworkPolicyIngressPeer
			if !chance(t, 5, "of a newer version") {
				peer.Namespaces, peer.Pods = drawClusterPeer(t)
			}
			r.From = append(r.From, peer)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress rules") {
		r := clusterv1alpha2.ClusterNetworkPolicyEgressRule{Action: drawClusterAction(t), Protocols: drawClusterProtocols(t)}
		for range rapid.IntRange(1, 2).Draw(t, "peers") {
			var peer clusterv1alpha2.ClusterNetworkPolicyEgressPeer
			switch pick(t, []string{"pods", "pods", "networks", "networks", "nodes", "names"}, "peer") {
			case "networks":
				peer.Networks = rapid.SliceOfNDistinct(rapid.SampledFrom([]clusterv1alpha2.CIDR{"10.0.0.0/30", "192.0.2.0/24", "0.0.0.0/0", "fd00::/8"}), 1, 2, rapid.ID).Draw(t, "networks")
			case "nodes":
				peer.Nodes = &metav1.LabelSelector{}
			case "names":
				peer.DomainNames = []clusterv1alpha2.DomainName{"example.com"}
			default:
				peer.Namespaces, peer.Pods = drawClusterPeer(t)
			}
			r.To = append(r.To, peer)
		}
		p.Spec.Egress = append(p.Spec.Egress, r)
	}
	return p
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
	port := pick(t, []*clusterv1alpha2.Port{nil, {Number: 80}, {Range: &clusterv1alpha2.PortRange{Start: 50, End: 80}}}, "port")
	all := []clusterv1alpha2.ClusterNetworkPolicyProtocol{
		{TCP: &clusterv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}},
		{UDP: &clusterv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}},
		{SCTP: &clusterv1alpha2.ClusterNetworkPolicyProtocolSCTP{}},
		{DestinationNamedPort: pick(t, portNames(), "name")},
	}
	return rapid.SliceOfN(rapid.SampledFrom(all), 0, 2).Draw(t, "protocols")
}
