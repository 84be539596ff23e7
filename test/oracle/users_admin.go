package oracle

import (
	"net/netip"

	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

func (u *users) adminPolicy(p *adminv1alpha1.AdminNetworkPolicy) anyPolicy {
	var ingress, egress []*clusterRule
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		ingress = append(ingress, u.adminIngress(action(r.Action), r.From, r.Ports))
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		rule := u.adminRule(action(r.Action), r.Ports)
		for j := range r.To {
			rule.peer(u.adminPeer(&r.To[j]))
		}
		egress = append(egress, rule)
	}
	subject := u.podSubject(p.Spec.Subject.Namespaces, u.namespacedPodV1(p.Spec.Subject.Pods))
	return u.clusterWide("kube-admin", p.Name+"//AdminNetworkPolicy", float64(p.Spec.Priority), subject, ingress, egress)
}

// baselineAdminPolicy is the only one of its kind, and comes after all that has a priority.
func (u *users) baselineAdminPolicy(p *adminv1alpha1.BaselineAdminNetworkPolicy) anyPolicy {
	var ingress, egress []*clusterRule
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		ingress = append(ingress, u.adminIngress(action(r.Action), r.From, r.Ports))
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		rule := u.adminRule(action(r.Action), r.Ports)
		for _, peer := range r.To {
			rule.peer(u.adminPeer(&adminv1alpha1.AdminNetworkPolicyEgressPeer{
				Namespaces: peer.Namespaces, Pods: peer.Pods, Nodes: peer.Nodes, Networks: peer.Networks,
			}))
		}
		egress = append(egress, rule)
	}
	const behindAllPriorities = 1001
	subject := u.podSubject(p.Spec.Subject.Namespaces, u.namespacedPodV1(p.Spec.Subject.Pods))
	return u.clusterWide("kube-baseline", p.Name+"//BaselineAdminNetworkPolicy", behindAllPriorities, subject, ingress, egress)
}

func (u *users) adminIngress(a action, from []adminv1alpha1.AdminNetworkPolicyIngressPeer, ports *[]adminv1alpha1.AdminNetworkPolicyPort) *clusterRule {
	rule := u.adminRule(a, ports)
	for _, peer := range from {
		rule.peer(u.podPeer(peer.Namespaces, u.namespacedPodV1(peer.Pods)))
	}
	return rule
}

func (u *users) adminPeer(p *adminv1alpha1.AdminNetworkPolicyEgressPeer) func(netip.Addr) bool {
	switch {
	case len(p.Networks) > 0:
		return func(addr netip.Addr) bool { return u.inAny(texts(p.Networks), addr) }
	case p.Nodes != nil:
		return u.nodePeer(p.Nodes)
	}
	return u.podPeer(p.Namespaces, u.namespacedPodV1(p.Pods))
}

func (u *users) adminRule(a action, ports *[]adminv1alpha1.AdminNetworkPolicyPort) *clusterRule {
	r := &clusterRule{action: a, allPorts: ports == nil || len(*ports) == 0, understood: true}
	if r.allPorts {
		return r
	}
	for _, x := range *ports {
		switch {
		case x.PortNumber != nil:
			r.port(func(p Packet) bool {
				return kubernetesProtocol(x.PortNumber.Protocol) == p.Protocol && int(x.PortNumber.Port) == p.DestinationPort
			})
		case x.PortRange != nil:
			r.port(func(p Packet) bool {
				return kubernetesProtocol(x.PortRange.Protocol) == p.Protocol && int(x.PortRange.Start) <= p.DestinationPort && p.DestinationPort <= int(x.PortRange.End)
			})
		case x.NamedPort != nil:
			r.port(func(p Packet) bool { return u.hasNamedPort(*x.NamedPort, p.Destination, p.DestinationPort, p.Protocol) })
		default:
			r.port(nil)
		}
	}
	return r
}
