package oracle

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
)

func (u *users) networkPolicy(p *v3.NetworkPolicy) anyPolicy {
	out := u.calicoPolicy(p.Namespace, p.Spec.Tier, p.Spec.Order, p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
	out.tie = p.Name + "/" + p.Namespace + "/NetworkPolicy"
	out.pods = func(pod *corev1.Pod) bool {
		return pod.Namespace == p.Namespace && u.podMatches(pod, p.Spec.Selector, "", p.Spec.ServiceAccountSelector)
	}
	return out
}

func (u *users) globalPolicy(p *v3.GlobalNetworkPolicy) anyPolicy {
	out := u.calicoPolicy("", p.Spec.Tier, p.Spec.Order, p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
	out.tie = p.Name + "//GlobalNetworkPolicy"
	out.forward, out.preDNAT, out.untracked = p.Spec.ApplyOnForward, p.Spec.PreDNAT, p.Spec.DoNotTrack
	out.pods = func(pod *corev1.Pod) bool {
		return !p.Spec.PreDNAT && !p.Spec.DoNotTrack && u.podMatches(pod, p.Spec.Selector, p.Spec.NamespaceSelector, p.Spec.ServiceAccountSelector)
	}
	out.hosts = func(h *v3.HostEndpoint) bool {
		return p.Spec.NamespaceSelector == "" && p.Spec.ServiceAccountSelector == "" && u.matches(p.Spec.Selector, "host "+h.Name, h.Labels)
	}
	return out
}

// podMatches tells whether a pod matches the selectors of a policy that are given.
func (u *users) podMatches(pod *corev1.Pod, selector, namespaces, accounts string) bool {
	return u.matches(selector, "pod "+podID(pod), podLabels(pod)) &&
		(namespaces == "" || u.matches(namespaces, "namespace "+pod.Namespace, u.namespaceLabels(pod.Namespace))) &&
		(accounts == "" || u.accountMatches(pod, accounts))
}

func (u *users) accountMatches(pod *corev1.Pod, selector string) bool {
	account := pod.Spec.ServiceAccountName
	return account != "" && u.matches(selector, "account "+pod.Namespace+"/"+account, u.accountLabels(pod))
}

func (u *users) calicoPolicy(namespace, tier string, order *float64, types []v3.PolicyType, ingress, egress []v3.Rule) anyPolicy {
	out := anyPolicy{tier: tier, order: math.Inf(1)}
	if tier == "" {
		out.tier = "default"
	}
	if order != nil {
		out.order = *order
	}
	switch {
	case len(types) > 0:
		out.ingress = slices.Contains(types, v3.PolicyTypeIngress)
		out.egress = slices.Contains(types, v3.PolicyTypeEgress)
	case len(egress) > 0 && len(ingress) > 0:
		out.ingress, out.egress = true, true
	case len(egress) > 0:
		out.egress = true
	default:
		out.ingress = true
	}
	out.decide = func(p Packet, isIngress bool) action {
		rules := egress
		if isIngress {
			rules = ingress
		}
		for i := range rules {
			if rules[i].Action != v3.Log && u.ruleMatches(namespace, &rules[i], p) {
				return action(rules[i].Action)
			}
		}
		return undecided
	}
	return out
}

func (u *users) ruleMatches(namespace string, r *v3.Rule, p Packet) bool {
	if r.HTTP != nil {
		return false // nobody looks into requests
	}
	if r.IPVersion != nil && *r.IPVersion != p.version() {
		return false
	}
	if r.Protocol != nil && !protocolMatches(*r.Protocol, p) || r.NotProtocol != nil && protocolNumber(*r.NotProtocol) == p.Protocol {
		return false
	}
	if r.ICMP != nil && !icmpMatches(r.ICMP, p) || r.NotICMP != nil && icmpMatches(r.NotICMP, p) {
		return false
	}
	return u.entityMatches(namespace, &r.Source, p.Source, p.SourcePort, p, false) &&
		u.entityMatches(namespace, &r.Destination, p.Destination, p.DestinationPort, p, true)
}

// protocolMatches tells whether a packet has a protocol. ICMP goes with IPv4, ICMPv6 with IPv6.
func protocolMatches(protocol intstr.IntOrString, p Packet) bool {
	number := protocolNumber(protocol)
	return number == p.Protocol && (number != ICMP || p.version() == 4) && (number != ICMPv6 || p.version() == 6)
}

func icmpMatches(m *v3.ICMPFields, p Packet) bool {
	return (m.Type == nil || *m.Type == p.ICMPType) && (m.Code == nil || *m.Code == p.ICMPCode)
}

func (u *users) entityMatches(namespace string, e *v3.EntityRule, addr netip.Addr, port int, p Packet, destination bool) bool {
	if len(e.Nets) > 0 && !u.inAny(e.Nets, addr) || u.inAny(e.NotNets, addr) {
		return false
	}
	if len(e.Ports) > 0 && !u.portIn(e.Ports, addr, port, p.Protocol) || u.portIn(e.NotPorts, addr, port, p.Protocol) {
		return false
	}
	if e.Services != nil && !u.isBehind(namespace, e.Services, addr, p, destination) {
		return false
	}
	owners := u.ownersOf(addr)
	for _, o := range owners {
		if e.NotSelector != "" && u.matches(e.NotSelector, o.name, o.labels) {
			return false
		}
	}
	mustBeSomebody := e.Selector != "" || e.NamespaceSelector != "" ||
		namespace != "" && (e.NotSelector != "" || e.ServiceAccounts != nil) ||
		e.ServiceAccounts != nil && (len(e.ServiceAccounts.Names) > 0 || e.ServiceAccounts.Selector != "")
	return !mustBeSomebody || slices.ContainsFunc(owners, func(o *owner) bool { return u.isPeer(namespace, e, o) })
}

// isPeer tells whether one thing fulfils namespace, labels and service account all together.
func (u *users) isPeer(namespace string, e *v3.EntityRule, o *owner) bool {
	switch {
	case e.NamespaceSelector == "global()":
		if o.namespace != "" {
			return false
		}
	case e.NamespaceSelector != "":
		if o.namespace == "" || !u.matches(e.NamespaceSelector, "namespace "+o.namespace, u.namespaceLabels(o.namespace)) {
			return false
		}
	case namespace != "":
		if o.namespace != namespace {
			return false
		}
	}
	if e.Selector != "" && !u.matches(e.Selector, o.name, o.labels) {
		return false
	}
	if a := e.ServiceAccounts; a != nil {
		if len(a.Names) > 0 && (o.pod == nil || !slices.Contains(a.Names, o.pod.Spec.ServiceAccountName)) {
			return false
		}
		if a.Selector != "" && (o.pod == nil || !u.accountMatches(o.pod, a.Selector)) {
			return false
		}
	}
	return true
}

// isBehind tells whether an address is that of a ready endpoint of a service and, where packets go to it, whether it is one of
// the endpoint's ports.
func (u *users) isBehind(namespace string, s *v3.ServiceMatch, addr netip.Addr, p Packet, destination bool) bool {
	if s.Namespace != "" {
		namespace = s.Namespace
	}
	for _, slice := range u.EndpointSlices {
		if slice.Namespace != namespace || slice.Labels["kubernetes.io/service-name"] != s.Name {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if ready && slices.Contains(endpoint.Addresses, addr.String()) && (!destination || hasEndpointPort(slice.Ports, p)) {
				return true
			}
		}
	}
	return false
}

func hasEndpointPort(ports []discoveryv1.EndpointPort, p Packet) bool {
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		if port.Port != nil && int(*port.Port) == p.DestinationPort && kubernetesProtocol(protocol) == p.Protocol {
			return true
		}
	}
	return false
}

func (u *users) portIn(ports []intstr.IntOrString, addr netip.Addr, port, protocol int) bool {
	for _, p := range ports {
		first, last := p.StrVal, p.StrVal
		if p.Type == intstr.Int {
			first, last = strconv.Itoa(int(p.IntVal)), strconv.Itoa(int(p.IntVal))
		} else if a, b, ok := strings.Cut(p.StrVal, ":"); ok {
			first, last = a, b
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		switch isName := errA != nil || errB != nil; {
		case isName && u.hasNamedPort(p.StrVal, addr, port, protocol), !isName && a <= port && port <= b:
			return true
		}
	}
	return false
}

func (u *users) hasNamedPort(name string, addr netip.Addr, port, protocol int) bool {
	return slices.ContainsFunc(u.ownersOf(addr), func(o *owner) bool {
		return slices.Contains(o.ports, namedPort{name, protocol, port})
	})
}
