package oracle

import (
	"maps"
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

func (w *World) networkPolicy(p *v3.NetworkPolicy) anyPolicy {
	out := w.calicoPolicy(p.Namespace, p.Spec.Tier, p.Spec.Order, p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
	out.tie = p.Name + "/" + p.Namespace + "/NetworkPolicy"
	out.selects = func(pod *corev1.Pod) bool {
		return pod.Namespace == p.Namespace && matches(p.Spec.Selector, podLabels(pod)) &&
			(p.Spec.ServiceAccountSelector == "" || matches(p.Spec.ServiceAccountSelector, w.accountLabels(pod)))
	}
	return out
}

func (w *World) globalPolicy(p *v3.GlobalNetworkPolicy) anyPolicy {
	out := w.calicoPolicy("", p.Spec.Tier, p.Spec.Order, p.Spec.Types, p.Spec.Ingress, p.Spec.Egress)
	out.tie = p.Name + "//GlobalNetworkPolicy"
	out.selects = func(pod *corev1.Pod) bool {
		return matches(p.Spec.Selector, podLabels(pod)) &&
			(p.Spec.NamespaceSelector == "" || matches(p.Spec.NamespaceSelector, w.namespaceLabels(pod.Namespace))) &&
			(p.Spec.ServiceAccountSelector == "" || matches(p.Spec.ServiceAccountSelector, w.accountLabels(pod)))
	}
	return out
}

func (w *World) calicoPolicy(namespace, tier string, order *float64, types []v3.PolicyType, ingress, egress []v3.Rule) anyPolicy {
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
	out.decide = func(_ *corev1.Pod, p Packet, isIngress bool) action {
		rules := egress
		if isIngress {
			rules = ingress
		}
		for i := range rules {
			if w.ruleMatches(namespace, &rules[i], p) && rules[i].Action != v3.Log {
				return action(rules[i].Action)
			}
		}
		return ""
	}
	return out
}

func (w *World) ruleMatches(namespace string, r *v3.Rule, p Packet) bool {
	if r.HTTP != nil {
		return false // nobody looks into requests
	}
	if s := r.Source.Services; s != nil && !w.isBehind(namespace, s, p.Source, nil) {
		return false
	}
	if s := r.Destination.Services; s != nil && !w.isBehind(namespace, s, p.Destination, &p) {
		return false
	}
	version := 6
	if p.Source.Is4() {
		version = 4
	}
	if r.IPVersion != nil && *r.IPVersion != version {
		return false
	}
	if r.Protocol != nil {
		number := protocolNumber(*r.Protocol)
		if number != p.Protocol || number == 1 && version != 4 || number == 58 && version != 6 {
			return false
		}
	}
	if r.NotProtocol != nil && protocolNumber(*r.NotProtocol) == p.Protocol {
		return false
	}
	if r.ICMP != nil && !icmpMatches(r.ICMP, p) || r.NotICMP != nil && icmpMatches(r.NotICMP, p) {
		return false
	}
	return w.entityMatches(namespace, &r.Source, p.Source, p.SourcePort, p.Protocol) &&
		w.entityMatches(namespace, &r.Destination, p.Destination, p.DestinationPort, p.Protocol)
}

func icmpMatches(m *v3.ICMPFields, p Packet) bool {
	return (m.Type == nil || *m.Type == p.ICMPType) && (m.Code == nil || *m.Code == p.ICMPCode)
}

func (w *World) entityMatches(namespace string, e *v3.EntityRule, addr netip.Addr, port, protocol int) bool {
	if len(e.Nets) > 0 && !inAny(e.Nets, addr) || inAny(e.NotNets, addr) {
		return false
	}
	if len(e.Ports) > 0 && !w.portIn(e.Ports, addr, port, protocol) || w.portIn(e.NotPorts, addr, port, protocol) {
		return false
	}
	owners := w.owners(addr)
	for _, o := range owners {
		if e.NotSelector != "" && matches(e.NotSelector, o.labels) {
			return false
		}
	}
	mustBeSomebody := e.Selector != "" || e.NamespaceSelector != "" ||
		namespace != "" && (e.NotSelector != "" || e.ServiceAccounts != nil) ||
		e.ServiceAccounts != nil && (len(e.ServiceAccounts.Names) > 0 || e.ServiceAccounts.Selector != "")
	if !mustBeSomebody {
		return true
	}
	for _, o := range owners {
		if w.isPeer(namespace, e, o) {
			return true
		}
	}
	return false
}

// isBehind tells whether an address is that of a ready endpoint of a service and, if a packet is given, whether it goes to
// one of the endpoint's ports.
func (w *World) isBehind(namespace string, s *v3.ServiceMatch, addr netip.Addr, p *Packet) bool {
	if s.Namespace != "" {
		namespace = s.Namespace
	}
	for _, slice := range w.EndpointSlices {
		if slice.Namespace != namespace || slice.Labels["kubernetes.io/service-name"] != s.Name {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if ready && slices.Contains(endpoint.Addresses, addr.String()) && (p == nil || hasEndpointPort(slice.Ports, *p)) {
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

// isPeer tells whether one thing fulfils namespace, labels and service account all together.
func (w *World) isPeer(namespace string, e *v3.EntityRule, o owner) bool {
	switch {
	case e.NamespaceSelector == "global()":
		if o.namespace != "" {
			return false
		}
	case e.NamespaceSelector != "":
		if o.namespace == "" || !matches(e.NamespaceSelector, w.namespaceLabels(o.namespace)) {
			return false
		}
	case namespace != "":
		if o.namespace != namespace {
			return false
		}
	}
	if e.Selector != "" && !matches(e.Selector, o.labels) {
		return false
	}
	if a := e.ServiceAccounts; a != nil {
		if len(a.Names) > 0 && (o.pod == nil || !slices.Contains(a.Names, o.pod.Spec.ServiceAccountName)) {
			return false
		}
		if a.Selector != "" && (o.pod == nil || o.pod.Spec.ServiceAccountName == "" || !matches(a.Selector, w.accountLabels(o.pod))) {
			return false
		}
	}
	return true
}

// owner is a pod or network set that has an address.
type owner struct {
	pod       *corev1.Pod // nil: a network set
	namespace string
	labels    map[string]string
}

func (w *World) owners(addr netip.Addr) []owner {
	var out []owner
	for _, pod := range w.Pods {
		if isEndpoint(pod) && hasAddress(pod, addr) {
			out = append(out, owner{pod, pod.Namespace, podLabels(pod)})
		}
	}
	for _, s := range w.NetworkSets {
		if inAny(s.Spec.Nets, addr) {
			out = append(out, owner{nil, s.Namespace, with(s.Labels, "projectcalico.org/namespace", s.Namespace)})
		}
	}
	for _, s := range w.GlobalNetworkSets {
		if inAny(s.Spec.Nets, addr) {
			out = append(out, owner{nil, "", s.Labels})
		}
	}
	return out
}

func podLabels(pod *corev1.Pod) map[string]string {
	out := with(pod.Labels, "projectcalico.org/namespace", pod.Namespace)
	out["projectcalico.org/orchestrator"] = "k8s"
	if pod.Spec.ServiceAccountName != "" {
		out["projectcalico.org/serviceaccount"] = pod.Spec.ServiceAccountName
	}
	return out
}

func (w *World) namespaceLabels(name string) map[string]string {
	for _, n := range w.Namespaces {
		if n.Name == name {
			return with(n.Labels, "projectcalico.org/name", name)
		}
	}
	return with(nil, "projectcalico.org/name", name)
}

func (w *World) accountLabels(pod *corev1.Pod) map[string]string {
	for _, a := range w.ServiceAccounts {
		if a.Namespace == pod.Namespace && a.Name == pod.Spec.ServiceAccountName {
			return with(a.Labels, "projectcalico.org/name", a.Name)
		}
	}
	return with(nil, "projectcalico.org/name", pod.Spec.ServiceAccountName)
}

func with(labels map[string]string, key, value string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, labels)
	out[key] = value
	return out
}

func inAny(nets []string, addr netip.Addr) bool {
	for _, text := range nets {
		if !strings.Contains(text, "/") {
			text = netip.PrefixFrom(netip.MustParseAddr(text), netip.MustParseAddr(text).BitLen()).String()
		}
		if netip.MustParsePrefix(text).Contains(addr) {
			return true
		}
	}
	return false
}

func (w *World) portIn(ports []intstr.IntOrString, addr netip.Addr, port, protocol int) bool {
	for _, p := range ports {
		if p.Type == intstr.Int {
			if int(p.IntVal) == port {
				return true
			}
			continue
		}
		if first, last, ok := strings.Cut(p.StrVal, ":"); ok {
			a, _ := strconv.Atoi(first)
			b, _ := strconv.Atoi(last)
			if a <= port && port <= b {
				return true
			}
			continue
		}
		if number, err := strconv.Atoi(p.StrVal); err == nil {
			if number == port {
				return true
			}
			continue
		}
		if w.hasNamedPort(p.StrVal, addr, port, protocol) {
			return true
		}
	}
	return false
}

func (w *World) hasNamedPort(name string, addr netip.Addr, port, protocol int) bool {
	for _, pod := range w.Pods {
		if !isEndpoint(pod) || !hasAddress(pod, addr) {
			continue
		}
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				if p.Name == name && int(p.ContainerPort) == port && kubernetesProtocol(p.Protocol) == protocol {
					return true
				}
			}
		}
	}
	return false
}

func protocolNumber(p intstr.IntOrString) int {
	if p.Type == intstr.Int {
		return int(p.IntVal)
	}
	switch p.StrVal {
	case "TCP":
		return 6
	case "UDP":
		return 17
	case "ICMP":
		return 1
	case "ICMPv6":
		return 58
	case "SCTP":
		return 132
	case "UDPLite":
		return 136
	}
	return -1
}
