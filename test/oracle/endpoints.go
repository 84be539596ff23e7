package oracle

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
)

// isEndpoint tells whether a pod has a network of its own that is up. Nothing else about the pod matters to policies.
func isEndpoint(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func podID(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func podAddresses(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		out = append(out, netip.MustParseAddr(ip.IP))
	}
	return out
}

// owner is what selectors can find: a pod, a network set or a host endpoint.
type owner struct {
	name      string      // of no meaning, but its own
	pod       *corev1.Pod // nil: no pod
	namespace string      // empty: in none
	labels    map[string]string
	nets      []netip.Prefix
	ports     []namedPort
}

type namedPort struct {
	name             string
	protocol, number int
}

func (o *owner) has(addr netip.Addr) bool {
	return slices.ContainsFunc(o.nets, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// owners are all that selectors can find.
func (w *World) owners() []*owner {
	var out []*owner
	for _, pod := range w.Pods {
		if !isEndpoint(pod) {
			continue
		}
		o := &owner{name: "pod " + podID(pod), pod: pod, namespace: pod.Namespace, labels: podLabels(pod)}
		for _, addr := range podAddresses(pod) {
			o.nets = append(o.nets, single(addr))
		}
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				o.ports = append(o.ports, namedPort{p.Name, kubernetesProtocol(p.Protocol), int(p.ContainerPort)})
			}
		}
		out = append(out, o)
	}
	for _, s := range w.NetworkSets {
		out = append(out, &owner{name: "set " + s.Namespace + "/" + s.Name, namespace: s.Namespace, labels: with(s.Labels, "projectcalico.org/namespace", s.Namespace), nets: prefixes(s.Spec.Nets)})
	}
	for _, s := range w.GlobalNetworkSets {
		out = append(out, &owner{name: "set " + s.Name, labels: s.Labels, nets: prefixes(s.Spec.Nets)})
	}
	for _, h := range w.HostEndpoints {
		out = append(out, hostOwner(h))
	}
	return out
}

func hostOwner(h *v3.HostEndpoint) *owner {
	o := &owner{name: "host " + h.Name, labels: h.Labels, nets: prefixes(h.Spec.ExpectedIPs)}
	for _, p := range h.Spec.Ports {
		o.ports = append(o.ports, namedPort{p.Name, protocolNumber(p.Protocol), p.Port})
	}
	return o
}

func podLabels(pod *corev1.Pod) map[string]string {
	out := with(pod.Labels, "projectcalico.org/namespace", pod.Namespace)
	out["projectcalico.org/orchestrator"] = "k8s"
	delete(out, "projectcalico.org/serviceaccount") // what the cluster says counts, not what the pod says
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

func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// prefixes reads CIDRs, and addresses that stand for themselves.
func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, single(addr))
			continue
		}
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func inAny(nets []string, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes(nets), func(p netip.Prefix) bool { return p.Contains(addr) })
}

// protocolNumber is the IANA number of a protocol that may be given by its name.
func protocolNumber(p intstr.IntOrString) int {
	if p.Type == intstr.Int {
		return int(p.IntVal)
	}
	for name, number := range map[string]int{"TCP": TCP, "UDP": UDP, "ICMP": ICMP, "ICMPv6": ICMPv6, "SCTP": SCTP, "UDPLite": UDPLite} {
		if strings.EqualFold(name, p.StrVal) {
			return number
		}
	}
	number, err := strconv.Atoi(p.StrVal)
	if err != nil {
		return -1
	}
	return number
}

func kubernetesProtocol(p corev1.Protocol) int {
	switch p {
	case corev1.ProtocolUDP:
		return UDP
	case corev1.ProtocolSCTP:
		return SCTP
	default:
		return TCP
	}
}
