// Package oracle says what should happen to a packet, in two ways that share nothing with the compiler: World reads it off
// the users' objects, slowly and in the plainest way; Rendered reads it off rendered objects. Tests compare the two.
package oracle

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	v3 "github.com/manul-net/manul/api/v3"
)

// World is a cluster as its users wrote it.
type World struct {
	Namespaces         []*corev1.Namespace
	ServiceAccounts    []*corev1.ServiceAccount
	Pods               []*corev1.Pod // their addresses are in status.podIPs
	KubernetesPolicies []*networkingv1.NetworkPolicy
	NetworkPolicies    []*v3.NetworkPolicy
	GlobalPolicies     []*v3.GlobalNetworkPolicy
	Tiers              []*v3.Tier
	NetworkSets        []*v3.NetworkSet
	GlobalNetworkSets  []*v3.GlobalNetworkSet
	EndpointSlices     []*discoveryv1.EndpointSlice
	ClusterPolicies    []*clusterv1alpha2.ClusterNetworkPolicy

	// Staged policies decide nothing, and a tier in which only they apply is as one in which none does: nobody here looks at them.
	StagedNetworkPolicies    []*v3.StagedNetworkPolicy
	StagedGlobalPolicies     []*v3.StagedGlobalNetworkPolicy
	StagedKubernetesPolicies []*v3.StagedKubernetesNetworkPolicy
}

// Packet is the first packet of a connection.
type Packet struct {
	Source, Destination         netip.Addr
	Protocol                    int // IANA number
	SourcePort, DestinationPort int
	ICMPType, ICMPCode          int
}

// Allowed tells whether a packet gets from its source to its destination: past the egress policy of the source, if that is a
// pod, and then past the ingress policy of the destination, if that is one.
func (w *World) Allowed(p Packet) bool {
	for _, pod := range w.Pods {
		if isEndpoint(pod) && hasAddress(pod, p.Source) && !w.passes(pod, p, false) {
			return false
		}
	}
	for _, pod := range w.Pods {
		if isEndpoint(pod) && hasAddress(pod, p.Destination) && !w.passes(pod, p, true) {
			return false
		}
	}
	return true
}

// action of a rule that matched, or "" when none did.
type action string

const (
	allow action = "Allow"
	deny  action = "Deny"
	pass  action = "Pass"
	log   action = "Log"
)

// anyPolicy is what the kinds of policies have in common.
type anyPolicy struct {
	tier            string
	order           float64
	tie             string
	selects         func(pod *corev1.Pod) bool
	ingress, egress bool
	decide          func(pod *corev1.Pod, p Packet, ingress bool) action
}

func (w *World) policies() []anyPolicy {
	var all []anyPolicy
	for _, p := range w.KubernetesPolicies {
		all = append(all, w.kubernetesPolicy(p))
	}
	for _, p := range w.NetworkPolicies {
		all = append(all, w.networkPolicy(p))
	}
	for _, p := range w.GlobalPolicies {
		all = append(all, w.globalPolicy(p))
	}
	for _, p := range w.ClusterPolicies {
		all = append(all, w.clusterPolicy(p))
	}
	slices.SortFunc(all, func(a, b anyPolicy) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.tie, b.tie))
	})
	return all
}

type anyTier struct {
	name          string
	order         float64
	defaultAction action
}

func (w *World) tiers() []anyTier {
	all := map[string]anyTier{
		"kube-admin":    {"kube-admin", 1000, pass},
		"default":       {"default", 1000000, deny},
		"kube-baseline": {"kube-baseline", 10000000, pass},
	}
	for _, t := range w.Tiers {
		tier := anyTier{t.Name, math.Inf(1), deny}
		if t.Spec.Order != nil {
			tier.order = *t.Spec.Order
		}
		if t.Spec.DefaultAction == v3.Pass {
			tier.defaultAction = pass
		}
		all[t.Name] = tier
	}
	var sorted []anyTier
	for _, t := range all {
		sorted = append(sorted, t)
	}
	slices.SortFunc(sorted, func(a, b anyTier) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	return sorted
}

// passes walks through the tiers of one pod and direction.
func (w *World) passes(pod *corev1.Pod, p Packet, ingress bool) bool {
	policies := w.policies()
	for _, tier := range w.tiers() {
		applied := false
		verdict := action("")
		for _, policy := range policies {
			if policy.tier != tier.name || !policy.selects(pod) || (ingress && !policy.ingress) || (!ingress && !policy.egress) {
				continue
			}
			applied = true
			if verdict = policy.decide(pod, p, ingress); verdict != "" {
				break
			}
		}
		if !applied {
			continue
		}
		if verdict == "" {
			verdict = tier.defaultAction
		}
		switch verdict {
		case allow:
			return true
		case deny:
			return false
		case pass, log: // on to the next tier
		}
	}
	return true
}

func isEndpoint(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func hasAddress(pod *corev1.Pod, addr netip.Addr) bool {
	for _, ip := range pod.Status.PodIPs {
		if ip.IP == addr.String() {
			return true
		}
	}
	return false
}
