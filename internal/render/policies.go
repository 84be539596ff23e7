package render

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// policyState is a policy and where it applies.
type policyState struct {
	compiled *policy.Compiled
	// program is the name of its PolicyProgram; a staged policy has none.
	program string
	// inForce: it selects something, and its tier exists.
	inForce   bool
	endpoints map[*endpoint]struct{}
	// nodes that have endpoints to which it applies, and of these the ones on which it is not in force yet.
	nodes   map[*node]struct{}
	waiting map[*node]*wait
	// staging is of a staged policy.
	staging staging
}

// tier as it counts: an object, or the default of a built-in tier without one.
type tier struct {
	order         float64
	defaultAction v1alpha1.Action
}

// builtinTier returns what a tier is without its object; the built-in tiers are always there.
func builtinTier(name string) (tier, bool) {
	switch name {
	case "kube-admin":
		return tier{1_000, v1alpha1.Pass}, true
	case "default":
		return tier{1_000_000, v1alpha1.Deny}, true
	case "kube-baseline":
		return tier{10_000_000, v1alpha1.Pass}, true
	}
	return tier{}, false
}

func (c *Cluster) tier(name string) (tier, bool) {
	if t, ok := c.tiers[name]; ok {
		return t, true
	}
	return builtinTier(name)
}

func (c *Cluster) setTier(o *v3.Tier) {
	t, builtin := builtinTier(o.Name)
	if !builtin {
		t = tier{math.Inf(1), v1alpha1.Deny}
	}
	if o.Spec.Order != nil {
		t.order = *o.Spec.Order
	}
	switch o.Spec.DefaultAction {
	case v3.Deny:
		t.defaultAction = v1alpha1.Deny
	case v3.Pass:
		t.defaultAction = v1alpha1.Pass
	default: // absent; anything else does not pass validation
	}
	c.changeTier(o.Name, func() { c.tiers[o.Name] = t })
}

func (c *Cluster) deleteTier(name string) {
	c.changeTier(name, func() { delete(c.tiers, name) })
}

// changeTier lets change make its change and passes on what follows from it.
func (c *Cluster) changeTier(name string, change func()) {
	before, existed := c.tier(name)
	change()
	after, exists := c.tier(name)
	if before == after && existed == exists {
		return
	}
	for _, p := range c.policies {
		if p.compiled.Tier != name {
			continue
		}
		c.dirtyPolicies[p.compiled.Ref] = struct{}{}
		if existed == exists {
			c.relist(p)
		} else {
			c.putInForce(p)
		}
	}
}

// setPolicy takes in a policy. Sets that both the old and the new form name stay as they are.
func (c *Cluster) setPolicy(compiled *policy.Compiled) {
	p := c.policies[compiled.Ref]
	if p == nil {
		p = &policyState{
			compiled:  &policy.Compiled{Staged: compiled.Staged},
			endpoints: map[*endpoint]struct{}{}, nodes: map[*node]struct{}{}, waiting: map[*node]*wait{},
			staging: staging{marks: map[*endpoint]mark{}},
		}
		c.policies[compiled.Ref] = p
		if compiled.Staged {
			c.stagedPolicies++
		} else {
			p.program = compiled.Ref.ProgramName()
			c.programs[p.program] = p
		}
	}
	old := p.compiled
	p.compiled = compiled
	for id, what := range compiled.Sets {
		c.useSet(id, what, p)
		compiled.Sets[id] = c.sets[id].what // parsed once, however many policies name the peer
	}
	for id := range old.Sets {
		if _, kept := compiled.Sets[id]; !kept {
			c.leaveSet(id, p)
		}
	}
	c.putInForce(p)
	if old.Tier != compiled.Tier || old.Order != compiled.Order || old.Ingress != compiled.Ingress || old.Egress != compiled.Egress ||
		old.Stage != compiled.Stage || old.Forward != compiled.Forward || old.Deletes != compiled.Deletes {
		c.relist(p)
	}
	if old.Finding != compiled.Finding || old.Generation != compiled.Generation {
		c.dirtyPolicies[compiled.Ref] = struct{}{}
	}
	if !Same(&old.Program, &compiled.Program) {
		c.touch(KindPolicyProgram, p.program)
		c.dirtyPolicies[compiled.Ref] = struct{}{}
		c.waitForAll(p)
	}
}

func (c *Cluster) deletePolicy(ref PolicyRef) {
	p := c.policies[ref]
	if p == nil {
		return
	}
	if p.inForce {
		c.selecting.DeleteSelector(p)
	}
	for id := range p.compiled.Sets {
		c.leaveSet(id, p)
	}
	delete(c.policies, ref)
	c.counterpartChanged(p)
	delete(c.pending.policies, p)
	if p.compiled.Staged {
		c.stagedPolicies--
	} else {
		delete(c.programs, p.program)
		c.touch(KindPolicyProgram, p.program)
	}
	c.dirtyPolicies[ref] = struct{}{}
}

// putInForce has the policy apply to the endpoints that it selects, if there is nothing against it.
func (c *Cluster) putInForce(p *policyState) {
	_, tierExists := c.tier(p.compiled.Tier)
	selects := p.compiled.Selector
	if real := c.counterpart(p); p.compiled.Deletes && real != nil && real.inForce {
		selects = real.compiled.Selector
	}
	was := p.inForce
	p.inForce = selects != nil && tierExists
	switch {
	case p.inForce:
		c.selecting.SetSelector(p, selects)
	case was:
		c.selecting.DeleteSelector(p)
	}
	c.counterpartChanged(p)
}

// selectionChanged is called when an endpoint begins or ceases to match a policy's selector.
func (c *Cluster) selectionChanged(p *policyState, e *endpoint, matches bool) {
	if matches {
		c.policyApplies(e, p)
	} else {
		c.policyNoLongerApplies(e, p)
	}
}

func (c *Cluster) policyApplies(e *endpoint, p *policyState) {
	p.endpoints[e] = struct{}{}
	e.node.required[p]++
	first := e.node.required[p] == 1
	if first {
		p.nodes[e.node] = struct{}{}
	}
	if p.compiled.Staged {
		c.stagedFor(e, p, true)
		c.dirtyPolicies[p.compiled.Ref] = struct{}{} // counted, and nothing else
		return
	}
	e.policies[p] = struct{}{}
	c.unlist(e)
	c.counterpartCounts(p)
	if first {
		c.waitFor(p, e.node)
	}
}

func (c *Cluster) policyNoLongerApplies(e *endpoint, p *policyState) {
	delete(p.endpoints, e)
	if p.compiled.Staged {
		c.stagedFor(e, p, false)
		c.dirtyPolicies[p.compiled.Ref] = struct{}{}
	} else {
		delete(e.policies, p)
		c.unlist(e)
		c.counterpartCounts(p)
	}
	e.node.required[p]--
	if e.node.required[p] == 0 {
		delete(e.node.required, p)
		delete(p.nodes, e.node)
		c.stopWaiting(p, e.node)
	}
}

// relist notes that the policy's place in the lists of its endpoints may have changed.
func (c *Cluster) relist(p *policyState) {
	if p.compiled.Staged {
		for e := range p.endpoints {
			c.pending.staged[e] = struct{}{}
		}
		return // it is in no list
	}
	for e := range p.endpoints {
		c.unlist(e)
	}
}

func (c *Cluster) unlist(e *endpoint) {
	e.listed = false
	c.touch(KindNodeState, e.node.name)
	if len(e.staged) > 0 {
		c.pending.staged[e] = struct{}{}
	}
}

// list makes the endpoint's lists of policies.
func (c *Cluster) list(e *endpoint) {
	if e.listed {
		return
	}
	all := slices.Collect(maps.Keys(e.policies))
	slices.SortFunc(all, c.comparePolicies)
	e.listed = true
	if e.host != nil {
		c.listHost(e.host, all)
		return
	}
	e.ingress = c.tierLists(all, func(p *policyState) bool { return p.compiled.Ingress })
	e.egress = c.tierLists(all, func(p *policyState) bool { return p.compiled.Egress })
}

// comparePolicies puts policies in force into the order of their evaluation.
func (c *Cluster) comparePolicies(a, b *policyState) int {
	if a.compiled.Tier != b.compiled.Tier {
		ta, _ := c.tier(a.compiled.Tier)
		tb, _ := c.tier(b.compiled.Tier)
		return cmp.Or(cmp.Compare(ta.order, tb.order), strings.Compare(a.compiled.Tier, b.compiled.Tier))
	}
	return policy.Compare(a.compiled, b.compiled)
}

// tierLists groups the policies that apply in a direction by tier.
func (c *Cluster) tierLists(ordered []*policyState, applies func(*policyState) bool) []v1alpha1.TierPolicies {
	var out []v1alpha1.TierPolicies
	for _, p := range ordered {
		if !applies(p) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Tier != p.compiled.Tier {
			t, _ := c.tier(p.compiled.Tier)
			out = append(out, v1alpha1.TierPolicies{Tier: p.compiled.Tier, DefaultAction: t.defaultAction})
		}
		last := &out[len(out)-1]
		last.Policies = append(last.Policies, p.program)
	}
	return out
}

// finding is what became of a policy, its tier considered.
func (c *Cluster) finding(p *policyState) policy.Finding {
	if p.compiled.Selector == nil && !p.compiled.Finding.Accepted {
		return p.compiled.Finding
	}
	if _, ok := c.tier(p.compiled.Tier); !ok {
		return policy.TierNotFound(p.compiled.Tier)
	}
	if p.compiled.Staged {
		return c.stagedFinding(p)
	}
	return p.compiled.Finding
}
