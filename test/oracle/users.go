package oracle

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v3 "github.com/manul-net/manul/api/v3"
)

// users is the judge that reads the users' objects.
type users struct {
	*World
	network  *Network
	all      []*owner
	sorted   []tierOfPolicies
	selected map[string]bool // memory of what selectors match
	nets     map[string]bool // memory of which nets contain what
}

func readUsers(w *World) *users {
	u := &users{World: w, network: w.Network(), all: w.owners(), selected: map[string]bool{}, nets: map[string]bool{}}
	policies := u.policies()
	for _, tier := range w.tiers() {
		t := tierOfPolicies{anyTier: tier}
		for _, p := range policies {
			if p.tier == tier.name {
				t.policies = append(t.policies, p)
			}
		}
		u.sorted = append(u.sorted, t)
	}
	return u
}

// anyPolicy is what the kinds of policies have in common.
type anyPolicy struct {
	tier  string
	order float64
	tie   string
	// pods and hosts select what the policy applies to. hosts nil: no host endpoint.
	pods            func(pod *corev1.Pod) bool
	hosts           func(h *v3.HostEndpoint) bool
	ingress, egress bool
	// forward, preDNAT and untracked are the flags of global policies.
	forward, preDNAT, untracked bool
	// decide on a packet; undecided when no rule matches it.
	decide func(p Packet, ingress bool) action
}

func (p *anyPolicy) applies(ingress bool) bool { return ingress && p.ingress || !ingress && p.egress }

// policies in the order of their evaluation within a tier.
func (u *users) policies() []anyPolicy {
	var all []anyPolicy
	for _, p := range u.KubernetesPolicies {
		all = append(all, u.kubernetesPolicy(p))
	}
	for _, p := range u.NetworkPolicies {
		all = append(all, u.networkPolicy(p))
	}
	for _, p := range u.GlobalPolicies {
		all = append(all, u.globalPolicy(p))
	}
	for _, p := range u.ClusterPolicies {
		all = append(all, u.clusterPolicy(p))
	}
	for _, p := range u.AdminPolicies {
		all = append(all, u.adminPolicy(p))
	}
	for _, p := range u.BaselineAdminPolicies {
		all = append(all, u.baselineAdminPolicy(p))
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

type tierOfPolicies struct {
	anyTier
	policies []anyPolicy
}

// tiers in the order of their evaluation.
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

// decide walks through the tiers with the policies that apply. Without ends, nothing happens at the end of a tier.
func (u *users) decide(p Packet, ingress, ends bool, applies func(*anyPolicy) bool) action {
	for _, tier := range u.sorted {
		applied, verdict := false, undecided
		for i := range tier.policies {
			policy := &tier.policies[i]
			if !policy.applies(ingress) || !applies(policy) {
				continue
			}
			applied = true
			if verdict = policy.decide(p, ingress); verdict != undecided {
				break
			}
		}
		if applied && ends && verdict == undecided {
			verdict = tier.defaultAction
		}
		if verdict == allow || verdict == deny {
			return verdict
		}
	}
	return undecided
}

func (u *users) pod(id string, ingress bool, p Packet) action {
	for _, pod := range u.Pods {
		if isEndpoint(pod) && podID(pod) == id {
			return cmp.Or(u.decide(p, ingress, true, func(policy *anyPolicy) bool { return policy.pods(pod) }), allow)
		}
	}
	return deny
}

// matches tells whether a selector matches labels that somebody has. Asking again is cheap: there are many packets.
func (u *users) matches(selector, whose string, labels map[string]string) bool {
	key := selector + "\n" + whose
	is, known := u.selected[key]
	if !known {
		is = matches(selector, labels)
		u.selected[key] = is
	}
	return is
}

// inAny tells whether one of the nets contains an address.
func (u *users) inAny(nets []string, addr netip.Addr) bool {
	if len(nets) == 0 {
		return false
	}
	key := strings.Join(nets, " ") + " " + addr.String()
	is, known := u.nets[key]
	if !known {
		is = inAny(nets, addr)
		u.nets[key] = is
	}
	return is
}

// owners of an address.
func (u *users) ownersOf(addr netip.Addr) []*owner {
	var out []*owner
	for _, o := range u.all {
		if o.has(addr) {
			out = append(out, o)
		}
	}
	return out
}
