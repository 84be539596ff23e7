package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
)

// PolicyReport says what became of a policy.
type PolicyReport struct {
	// Finding on the policy itself: accepted or not, and why.
	Finding policy.Finding
	// Program is the name of its PolicyProgram; empty for a staged policy.
	Program string
	// Staged: the policy is tried out and decides nothing. It is required of no node.
	Staged bool
	// Generation of the policy that the report is about.
	Generation int64

	// RenderedVersion is the resource version at which the program was written as it should be, and ProgramGeneration the
	// program's generation then. Empty and 0 until that has been seen.
	RenderedVersion   string
	ProgramGeneration int64

	// Required counts the nodes that have endpoints to which the policy applies, Enforcing those of them that enforce it.
	Required, Enforcing int
	// Lagging are nodes that do not enforce it yet, Failing those that report why they cannot: the first few, in order.
	Lagging []string
	Failing []NodeFailure
}

// NodeFailure is a node's reason for not enforcing a policy.
type NodeFailure struct {
	Node    string
	Message string
}

// maxNamed is how many nodes a report names.
const maxNamed = 10

// wait is a policy's waiting for one node.
type wait struct {
	// listed is the generation of the NodeState that lists the policy for all endpoints of the node to which it applies; 0:
	// not seen yet.
	listed int64
	// failure that the node reports.
	failure string
}

// DirtyPolicies returns the policies whose report may have changed since the last call, in order.
func (c *Cluster) DirtyPolicies() []PolicyRef {
	c.flush()
	refs := slices.Collect(maps.Keys(c.dirtyPolicies))
	c.dirtyPolicies = emptied(c.dirtyPolicies)
	slices.SortFunc(refs, func(a, b PolicyRef) int { return strings.Compare(a.String(), b.String()) })
	return refs
}

// Policy reports on a policy; false when there is no such policy.
func (c *Cluster) Policy(ref PolicyRef) (PolicyReport, bool) {
	c.flush()
	p := c.policies[ref]
	if p == nil {
		return PolicyReport{}, false
	}
	report := PolicyReport{Finding: c.finding(p), Program: p.program, Staged: p.compiled.Staged, Generation: p.compiled.Generation}
	if report.Staged {
		return report, true
	}
	if o := c.observedPrograms[p.program]; o != nil && o.current {
		report.RenderedVersion, report.ProgramGeneration = o.version, o.object.Generation
	}
	for n := range p.nodes {
		if !n.hasAgent() {
			continue
		}
		report.Required++
		switch w := p.waiting[n]; {
		case w == nil:
			report.Enforcing++
		case w.failure != "":
			report.Failing = append(report.Failing, NodeFailure{n.name, w.failure})
		default:
			report.Lagging = append(report.Lagging, n.name)
		}
	}
	slices.Sort(report.Lagging)
	slices.SortFunc(report.Failing, func(a, b NodeFailure) int { return strings.Compare(a.Node, b.Node) })
	report.Lagging = report.Lagging[:min(len(report.Lagging), maxNamed)]
	report.Failing = report.Failing[:min(len(report.Failing), maxNamed)]
	return report, true
}

// waitFor has the policy wait for a node to enforce it.
func (c *Cluster) waitFor(p *policyState, n *node) {
	p.waiting[n] = &wait{}
	n.waiting[p] = struct{}{}
	c.pending.policies[p] = struct{}{}
	c.dirtyPolicies[p.compiled.Ref] = struct{}{}
}

func (c *Cluster) stopWaiting(p *policyState, n *node) {
	delete(p.waiting, n)
	delete(n.waiting, p)
	c.dirtyPolicies[p.compiled.Ref] = struct{}{}
}

func (c *Cluster) waitForAll(p *policyState) {
	if c.observedPrograms[p.program] != nil {
		c.pending.compare[Key{KindPolicyProgram, p.program}] = struct{}{}
	}
	for n := range p.nodes {
		c.waitFor(p, n)
	}
}

// failuresChanged looks again at the policies that failures of a node, old or new, are about.
func (c *Cluster) failuresChanged(n *node, before, after []v1alpha1.Failure) {
	for _, failures := range [2][]v1alpha1.Failure{before, after} {
		for _, f := range failures {
			for p := range n.required {
				if concerns(f, n, p) {
					c.waitFor(p, n)
				}
			}
		}
	}
}

// Kinds of failures that are about no rendered object: about an endpoint of the node, or about the node.
const (
	failureEndpoint = "Endpoint"
	failureHost     = "HostEndpoint"
	// failureProxy is about all policies of the node: kube-proxy leads packets past them.
	failureProxy = "KubeProxy"
)

// concerns tells whether a failure on a node keeps a policy from being enforced there.
func concerns(f v1alpha1.Failure, n *node, p *policyState) bool {
	switch f.Kind {
	case failureProxy:
		return true
	case string(KindPolicyProgram):
		return f.Name == p.program
	case string(KindSetCatalog):
		for id := range p.compiled.Sets {
			if f.Name == id || f.Name == shardOf(id) {
				return true
			}
		}
	case failureEndpoint:
		if e := n.endpoints[f.Name]; e != nil {
			_, applies := e.policies[p]
			return applies
		}
	case failureHost:
		if e := n.hosts[f.Name]; e != nil {
			_, applies := e.policies[p]
			return applies
		}
	}
	return false
}

// updateEnforcement finds out on which nodes policies have come into force.
func (c *Cluster) updateEnforcement() {
	for p := range c.pending.policies {
		for n := range p.waiting {
			c.updateWait(p, n)
		}
		c.dirtyPolicies[p.compiled.Ref] = struct{}{}
	}
	c.pending.policies = emptied(c.pending.policies)
	for n := range c.pending.nodes {
		for p := range n.waiting {
			c.updateWait(p, n)
		}
	}
	c.pending.nodes = emptied(c.pending.nodes)
}

func (c *Cluster) updateWait(p *policyState, n *node) {
	w := p.waiting[n]
	failure := ""
	for _, f := range n.failures {
		if concerns(f, n, p) {
			failure = f.Message
			break
		}
	}
	if failure != w.failure {
		w.failure = failure
		c.dirtyPolicies[p.compiled.Ref] = struct{}{}
	}
	if failure == "" && c.enforces(p, n, w) {
		c.stopWaiting(p, n)
	}
}

// enforces tells whether a node has put everything into effect that the policy needs there.
func (c *Cluster) enforces(p *policyState, n *node, w *wait) bool {
	o := c.observedPrograms[p.program]
	if n.state == nil || o == nil || !o.current || versionLess(n.applied(KindPolicyProgram), o.version) {
		return false
	}
	for id := range p.compiled.Sets {
		s := c.sets[id]
		if s == nil || s.written == "" || versionLess(n.applied(KindSetCatalog), s.written) || !c.isPublished(s, n) {
			return false
		}
	}
	if w.listed == 0 && c.isListed(p, n) {
		w.listed = n.state.Generation
	}
	return w.listed != 0 && n.state.Status.ObservedGeneration >= w.listed
}

// isListed tells whether the NodeState in the API lists the policy where it should for all endpoints of the node to which
// it applies.
func (c *Cluster) isListed(p *policyState, n *node) bool {
	if n.listed == nil {
		n.listed = make(map[string]*v1alpha1.Endpoint, len(n.state.Spec.Endpoints))
		for i := range n.state.Spec.Endpoints {
			e := &n.state.Spec.Endpoints[i]
			n.listed[e.ID] = e
		}
		n.listedHosts = make(map[string]*v1alpha1.HostEndpoint, len(n.state.Spec.HostEndpoints))
		for i := range n.state.Spec.HostEndpoints {
			h := &n.state.Spec.HostEndpoints[i]
			n.listedHosts[h.Name] = h
		}
	}
	for _, e := range n.hosts {
		if _, applies := e.policies[p]; !applies {
			continue
		}
		if written := n.listedHosts[e.id]; written == nil || !c.hostLists(p, written) {
			return false
		}
	}
	for _, e := range n.endpoints {
		if _, applies := e.policies[p]; !applies {
			continue
		}
		written := n.listed[e.id]
		if written == nil || written.UID != e.uid ||
			!c.inPlace(p, written.Ingress, p.compiled.Ingress) || !c.inPlace(p, written.Egress, p.compiled.Egress) {
			return false
		}
	}
	return true
}

// inPlace tells whether the policy is in a list if it should be, and there between the right others.
func (c *Cluster) inPlace(p *policyState, tiers []v1alpha1.TierPolicies, applies bool) bool {
	for _, t := range tiers {
		at := slices.Index(t.Policies, p.program)
		if at < 0 {
			continue
		}
		if !applies || t.Tier != p.compiled.Tier {
			return false
		}
		for i, name := range t.Policies {
			other := c.programs[name]
			if other == nil || other.compiled.Tier != t.Tier || other == p {
				continue
			}
			if before := policy.Compare(other.compiled, p.compiled) < 0; before != (i < at) {
				return false
			}
		}
		return true
	}
	return !applies
}
