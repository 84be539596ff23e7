package oracle_test

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

func drawNetworkPolicy(t *rapid.T, i int) *v3.NetworkPolicy {
	return &v3.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("p%d", i)},
		Spec: v3.NetworkPolicySpec{
			Tier: drawTier(t), Order: drawOrder(t), Types: drawTypes(t),
			Selector: maybeSelector(t, 40, "selector"), ServiceAccountSelector: maybeSelector(t, 15, "account selector"),
			Ingress: drawRules(t, true, true), Egress: drawRules(t, false, true),
		},
	}
}

func drawGlobalPolicy(t *rapid.T, i int) *v3.GlobalNetworkPolicy {
	p := &v3.GlobalNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)},
		Spec: v3.GlobalNetworkPolicySpec{
			Tier: drawTier(t), Order: drawOrder(t), Types: drawTypes(t), Selector: maybeSelector(t, 40, "selector"),
		},
	}
	if chance(t, 30, "pods only") {
		p.Spec.NamespaceSelector = maybeSelector(t, 90, "namespace selector")
		p.Spec.ServiceAccountSelector = maybeSelector(t, 30, "account selector")
	}
	kind := pick(t, []string{"plain", "plain", "forward", "forward", "preDNAT", "untracked"}, "kind")
	p.Spec.ApplyOnForward = kind != "plain"
	p.Spec.PreDNAT, p.Spec.DoNotTrack = kind == "preDNAT", kind == "untracked"
	p.Spec.Ingress = drawRules(t, true, false)
	if kind == "preDNAT" {
		p.Spec.Types = []v3.PolicyType{v3.PolicyTypeIngress}
		return p
	}
	p.Spec.Egress = drawRules(t, false, false)
	return p
}

func drawTypes(t *rapid.T) []v3.PolicyType {
	return pick(t, [][]v3.PolicyType{nil, nil, {v3.PolicyTypeIngress, v3.PolicyTypeEgress}, {v3.PolicyTypeIngress}, {v3.PolicyTypeEgress}}, "types")
}

func drawRules(t *rapid.T, ingress, namespaced bool) []v3.Rule {
	var out []v3.Rule
	for range upTo(t, 3, "rules") {
		r := drawRule(t, ingress, namespaced)
		if ingress && r.Action == v3.Allow && (r.Protocol == nil || r.Protocol.StrVal == "TCP") && chance(t, 8, "http") {
			r.HTTP = &v3.HTTPMatch{Methods: []string{"GET"}}
		}
		out = append(out, r)
	}
	return out
}

// drawRule draws a rule of which about every second match holds for something: most rules have few matches.
func drawRule(t *rapid.T, ingress, namespaced bool) v3.Rule {
	r := v3.Rule{Action: pick(t, []v3.Action{v3.Allow, v3.Deny, v3.Allow, v3.Pass, v3.Log}, "action")}
	version := pick(t, []int{0, 0, 0, 4, 6}, "ip version")
	if version != 0 {
		r.IPVersion = &version
	}
	v4 := version == 4 || version == 0 && chance(t, 70, "IPv4 nets")
	ports := drawProtocol(t, &r, version, v4)
	near, far := &r.Destination, &r.Source
	if !ingress {
		near, far = far, near
	}
	switch {
	case chance(t, 18, "services"):
		s := &v3.ServiceMatch{Name: pick(t, services(), "service"), Namespace: pick(t, serviceNamespaces(), "namespace of the service")}
		if namespaced && chance(t, 50, "own namespace") {
			s.Namespace = ""
		}
		far.Services = s
		if ingress && ports {
			drawPorts(t, far)
		}
	case chance(t, 70, "peer"):
		drawPeer(t, far, v4)
	}
	if chance(t, 12, "own side") {
		drawPeer(t, near, v4)
	}
	if ports && r.Destination.Services == nil {
		drawPorts(t, &r.Destination)
		if chance(t, 15, "source ports") {
			drawPorts(t, &r.Source)
		}
	}
	return r
}

// drawProtocol tells whether the rule may name ports.
func drawProtocol(t *rapid.T, r *v3.Rule, version int, v4 bool) bool {
	icmp, echo := "ICMP", 8
	if !v4 {
		icmp, echo = "ICMPv6", 128
	}
	_ = version
	protocols := []intstr.IntOrString{intstr.FromString("TCP"), intstr.FromString("UDP"), intstr.FromString("SCTP"), intstr.FromInt32(6), intstr.FromString("tcp"), intstr.FromString("17")}
	switch kind := bits(t, 4, "protocol"); {
	case kind < 6:
	case kind < 12:
		r.Protocol = new(pick(t, protocols, "protocol"))
		if chance(t, 5, "not the same protocol") {
			r.NotProtocol = new(pick(t, protocols, "not protocol"))
		}
		return true
	case kind < 14:
		r.Protocol = new(intstr.FromString(icmp))
		messages := []*v3.ICMPFields{nil, {Type: new(echo)}, {Type: new(echo), Code: new(0)}, {Type: new(echo), Code: new(1)}, {Type: new(13)}, {Type: new(0)}}
		r.ICMP = pick(t, messages, "icmp")
		if chance(t, 30, "not icmp") {
			r.NotICMP = pick(t, messages, "not icmp")
		}
	case kind == 14:
		r.NotProtocol = new(pick(t, append(protocols, intstr.FromString("ICMP"), intstr.FromInt32(47)), "not protocol"))
	default:
		r.Protocol = new(pick(t, []intstr.IntOrString{intstr.FromInt32(47), intstr.FromString("UDPLite"), intstr.FromInt32(4)}, "protocol"))
	}
	return false
}

func drawPorts(t *rapid.T, e *v3.EntityRule) {
	all := []intstr.IntOrString{
		intstr.FromInt32(80), intstr.FromString("8000:9000"), intstr.FromString("http"), intstr.FromString("53"), intstr.FromString("50:80"),
		intstr.FromString("dns"), intstr.FromString("1:65535"), intstr.FromInt32(22), intstr.FromString("30000:40000"),
	}
	if chance(t, 60, "ports") {
		e.Ports = some(t, all, 3, "port")
	}
	if chance(t, 25, "not ports") {
		e.NotPorts = some(t, append(all, intstr.FromString("http"), intstr.FromString("dns"), intstr.FromString("http"), intstr.FromString("dns")), 2, "not port")
	}
}

// drawPeer draws one match or two of those that say who.
func drawPeer(t *rapid.T, e *v3.EntityRule, v4 bool) {
	nets := nets(v4)
	for range 1 + upTo(t, 1, "matches") {
		switch pick(t, []string{"selector", "nets", "namespaces", "accounts", "not selector", "not nets", "global()", "nets"}, "match") {
		case "selector":
			e.Selector = drawSelector(t, 2)
		case "not selector":
			e.NotSelector = drawSelector(t, 2)
		case "nets":
			e.Nets = distinct(some(t, nets, 3, "net"))
		case "not nets":
			if net := pick(t, nets, "not net"); !strings.HasSuffix(net, "/0") {
				e.NotNets = []string{net}
			}
		case "namespaces":
			e.NamespaceSelector = drawSelector(t, 1)
		case "global()":
			e.NamespaceSelector = "global()"
		case "accounts":
			e.ServiceAccounts = &v3.ServiceAccountMatch{Selector: maybeSelector(t, 50, "account selector")}
			if chance(t, 50, "names") {
				e.ServiceAccounts.Names = []string{pick(t, accounts(), "name")}
			}
		}
	}
}

// drawStaged adds staged policies, in the same tiers and under the same names as others.
func drawStaged(t *rapid.T, w *oracle.World) {
	act := pick(t, []v3.StagedAction{"", v3.StagedActionSet, v3.StagedActionLearn, v3.StagedActionIgnore}, "staged action")
	if chance(t, 25, "staged policy") {
		p := drawNetworkPolicy(t, 0)
		w.StagedNetworkPolicies = append(w.StagedNetworkPolicies, &v3.StagedNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedNetworkPolicySpec{StagedAction: act, NetworkPolicySpec: p.Spec},
		})
	}
	if chance(t, 25, "staged global policy") {
		p := drawGlobalPolicy(t, 0)
		w.StagedGlobalPolicies = append(w.StagedGlobalPolicies, &v3.StagedGlobalNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedGlobalNetworkPolicySpec{StagedAction: act, GlobalNetworkPolicySpec: p.Spec},
		})
	}
	if chance(t, 25, "staged Kubernetes policy") {
		p := drawKubernetesPolicy(t, 0)
		w.StagedKubernetesPolicies = append(w.StagedKubernetesPolicies, &v3.StagedKubernetesNetworkPolicy{
			ObjectMeta: p.ObjectMeta, Spec: v3.StagedKubernetesNetworkPolicySpec{
				StagedAction: act, PodSelector: p.Spec.PodSelector, Ingress: p.Spec.Ingress, Egress: p.Spec.Egress, PolicyTypes: p.Spec.PolicyTypes,
			},
		})
	}
}
