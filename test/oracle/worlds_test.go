package oracle_test

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

// A small vocabulary makes collisions, and so matches, likely.
func keys() []string       { return []string{"app", "tier", "role"} }
func values() []string     { return []string{"a", "b", "ab"} }
func namespaces() []string { return []string{"n1", "n2", "n3"} }
func accounts() []string   { return []string{"default", "robot"} }
func portNames() []string  { return []string{"http", "dns"} }
func outside() []string    { return []string{"192.0.2.1", "192.0.2.130", "203.0.113.9", "2001:db8::1"} }

func nets4() []string {
	return []string{"10.0.0.0/8", "10.0.0.0/30", "10.0.0.2", "192.0.2.0/24", "192.0.2.128/25", "0.0.0.0/0"}
}
func nets6() []string { return []string{"2001:db8::/32", "fd00::/8", "fd00::2/128"} }

func chance(t *rapid.T, percent int, label string) bool {
	return rapid.IntRange(1, 100).Draw(t, label) <= percent
}

func pick[T any](t *rapid.T, from []T, label string) T { return rapid.SampledFrom(from).Draw(t, label) }

func drawLabels(t *rapid.T) map[string]string {
	out := map[string]string{}
	for _, key := range keys() {
		if chance(t, 60, "has "+key) {
			out[key] = pick(t, values(), key)
		}
	}
	return out
}

func drawWorld(t *rapid.T) *oracle.World {
	w := &oracle.World{}
	for _, name := range namespaces() {
		w.Namespaces = append(w.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: drawLabels(t)}})
		for _, account := range accounts() {
			w.ServiceAccounts = append(w.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: account, Labels: drawLabels(t)}})
		}
	}
	for i := range rapid.IntRange(2, 6).Draw(t, "pods") {
		w.Pods = append(w.Pods, drawPod(t, i))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "network sets") {
		w.NetworkSets = append(w.NetworkSets, &v3.NetworkSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("set%d", i), Labels: drawLabels(t)},
			Spec:       v3.NetworkSetSpec{Nets: []string{pick(t, nets4(), "net"), pick(t, nets6(), "net")}},
		})
		w.GlobalNetworkSets = append(w.GlobalNetworkSets, &v3.GlobalNetworkSet{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("set%d", i), Labels: drawLabels(t)},
			Spec:       v3.GlobalNetworkSetSpec{Nets: []string{pick(t, nets4(), "net"), pick(t, nets6(), "net")}},
		})
	}
	order := float64(rapid.IntRange(1, 2000000).Draw(t, "order of tier"))
	w.Tiers = append(w.Tiers, &v3.Tier{
		ObjectMeta: metav1.ObjectMeta{Name: "extra"},
		Spec:       v3.TierSpec{Order: &order, DefaultAction: pick(t, []v3.Action{v3.Deny, v3.Pass, ""}, "default action")},
	})
	w.EndpointSlices = drawSlices(t)
	for i := range rapid.IntRange(0, 2).Draw(t, "Kubernetes policies") {
		w.KubernetesPolicies = append(w.KubernetesPolicies, drawKubernetesPolicy(t, i))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "policies") {
		w.NetworkPolicies = append(w.NetworkPolicies, drawNetworkPolicy(t, i))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "global policies") {
		w.GlobalPolicies = append(w.GlobalPolicies, drawGlobalPolicy(t, i))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "cluster policies") {
		w.ClusterPolicies = append(w.ClusterPolicies, drawClusterPolicy(t, i))
	}
	drawStaged(t, w)
	return w
}

func drawPod(t *rapid.T, i int) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("pod%d", i), UID: types.UID(fmt.Sprint(i)), Labels: drawLabels(t),
		},
		Spec: corev1.PodSpec{NodeName: pick(t, []string{"x", "y"}, "node"), ServiceAccountName: pick(t, accounts(), "account")},
		Status: corev1.PodStatus{
			Phase:  pick(t, []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodFailed}, "phase"),
			PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.0.0.%d", i+1)}, {IP: fmt.Sprintf("fd00::%d", i+1)}},
		},
	}
	pod.Spec.HostNetwork = chance(t, 5, "host network")
	for _, name := range portNames() {
		if chance(t, 60, "has port "+name) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{{
				Name: name, ContainerPort: pick(t, []int32{80, 53, 8080}, "port"), Protocol: pick(t, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}, "protocol"),
			}}})
		}
	}
	return pod
}

// drawSelector draws the text of a selector.
func drawSelector(t *rapid.T, depth int) string {
	if depth > 0 && chance(t, 35, "compound") {
		a, b := drawSelector(t, depth-1), drawSelector(t, depth-1)
		return pick(t, []string{"(" + a + ") && (" + b + ")", a + " || " + b, "!(" + a + ")", a + "&&" + b}, "compound")
	}
	all := append(keys(), "projectcalico.org/namespace", "projectcalico.org/name", "projectcalico.org/serviceaccount", "projectcalico.org/orchestrator")
	key, value := pick(t, all, "key"), pick(t, append(values(), "n1", "n2", "robot", "k8s"), "value")
	return pick(t, []string{
		key + " == '" + value + "'", key + ` != "` + value + `"`, key + " in {'" + value + "', 'b'}", key + " not in {'a','" + value + "'}",
		key + " contains '" + value[:1] + "'", key + " starts with 'a'", key + " ends with 'b'", "has(" + key + ")", "!has(" + key + ")", "all()",
	}, "term")
}

func maybeSelector(t *rapid.T, percent int, label string) string {
	if !chance(t, percent, label) {
		return ""
	}
	return drawSelector(t, 2)
}

func drawNetworkPolicy(t *rapid.T, i int) *v3.NetworkPolicy {
	return &v3.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("p%d", i)},
		Spec: v3.NetworkPolicySpec{
			Tier: pick(t, []string{"", "default", "extra", "kube-admin", "missing"}, "tier"), Order: drawOrder(t), Types: drawTypes(t),
			Selector: maybeSelector(t, 50, "selector"), ServiceAccountSelector: maybeSelector(t, 20, "account selector"),
			Ingress: drawRules(t, true, true), Egress: drawRules(t, false, true),
		},
	}
}

func drawGlobalPolicy(t *rapid.T, i int) *v3.GlobalNetworkPolicy {
	return &v3.GlobalNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)},
		Spec: v3.GlobalNetworkPolicySpec{
			Tier: pick(t, []string{"", "extra", "kube-admin", "kube-baseline"}, "tier"), Order: drawOrder(t), Types: drawTypes(t),
			Selector: maybeSelector(t, 50, "selector"), NamespaceSelector: maybeSelector(t, 30, "namespace selector"),
			ServiceAccountSelector: maybeSelector(t, 20, "account selector"),
			Ingress:                drawRules(t, true, false), Egress: drawRules(t, false, false),
		},
	}
}

func drawOrder(t *rapid.T) *float64 {
	if chance(t, 30, "no order") {
		return nil
	}
	order := pick(t, []float64{-1.5, 10, 1000, 2000}, "order")
	return &order
}

func drawTypes(t *rapid.T) []v3.PolicyType {
	return pick(t, [][]v3.PolicyType{nil, nil, {v3.PolicyTypeIngress}, {v3.PolicyTypeEgress}, {v3.PolicyTypeIngress, v3.PolicyTypeEgress}}, "types")
}

func drawRules(t *rapid.T, ingress, namespaced bool) []v3.Rule {
	var out []v3.Rule
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := drawRule(t, namespaced)
		if chance(t, 15, "services") {
			towardsService(t, &r, ingress, namespaced)
		}
		if ingress && r.Action == v3.Allow && (r.Protocol == nil || r.Protocol.StrVal == "TCP") && chance(t, 10, "http") {
			r.HTTP = &v3.HTTPMatch{Methods: []string{"GET"}}
		}
		out = append(out, r)
	}
	return out
}

func drawRule(t *rapid.T, namespaced bool) v3.Rule {
	r := v3.Rule{Action: pick(t, []v3.Action{v3.Allow, v3.Deny, v3.Pass, v3.Log}, "action")}
	family := pick(t, []int{0, 0, 4, 6}, "ip version")
	if family != 0 && chance(t, 50, "say version") {
		r.IPVersion = &family
	}
	nets := nets4()
	if family == 6 {
		nets = nets6()
	}
	ports := false
	switch protocol := pick(t, []string{"", "TCP", "UDP", "ICMP", "number"}, "protocol"); protocol {
	case "":
	case "number":
		p := intstr.FromInt32(6)
		r.Protocol, ports = &p, true
	case "ICMP":
		if family == 6 {
			protocol = "ICMPv6"
		}
		p := intstr.FromString(protocol)
		r.Protocol = &p
		eight, zero := 8, 0
		r.ICMP = pick(t, []*v3.ICMPFields{nil, {Type: &eight}, {Type: &eight, Code: &zero}}, "icmp")
		r.NotICMP = pick(t, []*v3.ICMPFields{nil, nil, {Type: &eight}}, "not icmp")
	default:
		p := intstr.FromString(protocol)
		r.Protocol, ports = &p, true
	}
	if chance(t, 10, "not protocol") {
		p := intstr.FromString("UDP")
		r.NotProtocol = &p
	}
	r.Source = drawEntity(t, nets, ports, namespaced)
	r.Destination = drawEntity(t, nets, ports, namespaced)
	return r
}

func drawEntity(t *rapid.T, nets []string, ports, namespaced bool) v3.EntityRule {
	e := v3.EntityRule{
		Selector: maybeSelector(t, 30, "selector"), NotSelector: maybeSelector(t, 15, "not selector"),
		NamespaceSelector: maybeSelector(t, 20, "namespace selector"),
	}
	if chance(t, 8, "global()") {
		e.NamespaceSelector = "global()"
	}
	if chance(t, 25, "nets") {
		e.Nets = rapid.SliceOfNDistinct(rapid.SampledFrom(nets), 1, 2, rapid.ID).Draw(t, "nets")
	}
	if chance(t, 15, "not nets") {
		if net := pick(t, nets, "not net"); !strings.HasSuffix(net, "/0") {
			e.NotNets = []string{net}
		}
	}
	if chance(t, 15, "accounts") {
		e.ServiceAccounts = &v3.ServiceAccountMatch{Selector: maybeSelector(t, 50, "account selector")}
		if chance(t, 50, "names") {
			e.ServiceAccounts.Names = []string{pick(t, accounts(), "name")}
		}
	}
	all := []intstr.IntOrString{intstr.FromInt32(80), intstr.FromString("8000:9000"), intstr.FromString("http"), intstr.FromString("53")}
	if ports && chance(t, 40, "ports") {
		e.Ports = rapid.SliceOfN(rapid.SampledFrom(all), 1, 2).Draw(t, "ports")
	}
	if ports && chance(t, 15, "not ports") {
		e.NotPorts = rapid.SliceOfN(rapid.SampledFrom(all), 1, 2).Draw(t, "not ports")
	}
	return e
}

func drawKubernetesPolicy(t *rapid.T, i int) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("k%d", i)},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: *drawLabelSelector(t)},
	}
	p.Spec.PolicyTypes = pick(t, [][]networkingv1.PolicyType{nil, {networkingv1.PolicyTypeIngress}, {networkingv1.PolicyTypeEgress}, {networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}}, "types")
	for range rapid.IntRange(0, 2).Draw(t, "ingress rules") {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawPeers(t), Ports: drawKubernetesPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress rules") {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawPeers(t), Ports: drawKubernetesPorts(t)})
	}
	return p
}

func drawLabelSelector(t *rapid.T) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if chance(t, 50, "match labels") {
		s.MatchLabels = map[string]string{pick(t, keys(), "key"): pick(t, values(), "value")}
	}
	if chance(t, 30, "match expressions") {
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
	var out []networkingv1.NetworkPolicyPeer
	for range rapid.IntRange(0, 2).Draw(t, "peers") {
		switch pick(t, []string{"block", "pods", "namespaces", "both"}, "peer") {
		case "block":
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: pick(t, [][]string{nil, {"10.0.0.0/30"}}, "except")}})
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
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		udp := corev1.ProtocolUDP
		p := networkingv1.NetworkPolicyPort{Protocol: pick(t, []*corev1.Protocol{nil, &udp}, "protocol")}
		switch pick(t, []string{"none", "number", "range", "name"}, "port") {
		case "number":
			number := intstr.FromInt32(80)
			p.Port = &number
		case "range":
			number, end := intstr.FromInt32(50), int32(80)
			p.Port, p.EndPort = &number, &end
		case "name":
			name := intstr.FromString(pick(t, portNames(), "name"))
			p.Port = &name
		}
		out = append(out, p)
	}
	return out
}

// packets between all pairs of pods and addresses outside.
func packets(w *oracle.World) []oracle.Packet {
	var addrs []netip.Addr
	for _, pod := range w.Pods {
		for _, ip := range pod.Status.PodIPs {
			addrs = append(addrs, netip.MustParseAddr(ip.IP))
		}
	}
	for _, text := range outside() {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	var out []oracle.Packet
	for _, from := range addrs {
		for _, to := range addrs {
			if from.Is4() != to.Is4() {
				continue
			}
			icmp := 1
			if from.Is6() {
				icmp = 58
			}
			for _, port := range []int{53, 80, 8080} {
				out = append(out,
					oracle.Packet{Source: from, Destination: to, Protocol: 6, SourcePort: 40000, DestinationPort: port},
					oracle.Packet{Source: from, Destination: to, Protocol: 17, SourcePort: port, DestinationPort: port})
			}
			out = append(out,
				oracle.Packet{Source: from, Destination: to, Protocol: icmp, ICMPType: 8},
				oracle.Packet{Source: from, Destination: to, Protocol: icmp, ICMPType: 3, ICMPCode: 1},
				oracle.Packet{Source: from, Destination: to, Protocol: 47})
		}
	}
	return out
}
