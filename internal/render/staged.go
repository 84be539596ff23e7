package render

import (
	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
)

// staging is what there is of a staged policy instead of a program: what it would change, kept up to date endpoint by endpoint,
// so that a change costs as much as it concerns.
type staging struct {
	// marks of the endpoints to which it would apply; those of a deletion are the endpoints of the policy to delete.
	marks map[*endpoint]mark
	// kept, ingress and egress count the endpoints with each mark.
	kept, ingress, egress int
}

// mark says what a staged policy would do to an endpoint.
type mark struct {
	// kept: the policy that it would replace applies to the endpoint, too.
	kept bool
	// ingress and egress: that direction would cease to be open to all, or for a deletion begin.
	ingress, egress bool
}

func (s *staging) count(m mark, by int) {
	if m.kept {
		s.kept += by
	}
	if m.ingress {
		s.ingress += by
	}
	if m.egress {
		s.egress += by
	}
}

// stagedFor has a staged policy, or no longer, look at an endpoint.
func (c *Cluster) stagedFor(e *endpoint, p *policyState, applies bool) {
	if applies {
		if e.staged == nil {
			e.staged = map[*policyState]struct{}{}
		}
		e.staged[p] = struct{}{}
		c.pending.staged[e] = struct{}{}
		return
	}
	delete(e.staged, p)
	p.staging.count(p.staging.marks[e], -1)
	delete(p.staging.marks, e)
}

// updateStaged brings up to date what staged policies would change.
func (c *Cluster) updateStaged() {
	for e := range c.pending.staged {
		for p := range e.staged {
			now := c.mark(e, p)
			if before := p.staging.marks[e]; before != now {
				p.staging.count(before, -1)
				p.staging.count(now, 1)
				p.staging.marks[e] = now
				c.dirtyPolicies[p.compiled.Ref] = struct{}{}
			}
		}
	}
	c.pending.staged = emptied(c.pending.staged)
}

func (c *Cluster) mark(e *endpoint, p *policyState) mark {
	var m mark
	replaced := c.counterpart(p)
	if replaced != nil {
		_, m.kept = e.policies[replaced]
	}
	if p.compiled.Deletes {
		m.ingress = c.limits(e, true, nil) && !c.limits(e, true, replaced)
		m.egress = c.limits(e, false, nil) && !c.limits(e, false, replaced)
		return m
	}
	m.ingress = p.compiled.Ingress && c.closes(p) && !c.limits(e, true, nil)
	m.egress = p.compiled.Egress && c.closes(p) && !c.limits(e, false, nil)
	return m
}

// limits tells whether a direction of an endpoint is limited to what rules allow, by a policy other than except: at the end of
// its tier what no rule allows is dropped. A host endpoint may be closed by itself.
func (c *Cluster) limits(e *endpoint, ingress bool, except *policyState) bool {
	if e.host != nil && e.host.defaultAction == v1alpha1.Deny {
		return true
	}
	for p := range e.policies {
		applies := p.compiled.Egress
		if ingress {
			applies = p.compiled.Ingress
		}
		if p != except && applies && c.closes(p) {
			return true
		}
	}
	return false
}

// closes tells whether there is an end behind the policy that drops what no rule allows.
func (c *Cluster) closes(p *policyState) bool {
	t, _ := c.tier(p.compiled.Tier)
	return p.compiled.Stage == policy.Filter && t.defaultAction == v1alpha1.Deny
}

// counterpart is the policy that a staged one would replace or delete; nil: there is none.
func (c *Cluster) counterpart(p *policyState) *policyState {
	return c.policies[p.compiled.Ref.Real()]
}

// counterpartChanged has the staged policy that stands for the same policy as p looked at again.
func (c *Cluster) counterpartChanged(p *policyState) {
	if p.compiled.Staged {
		return
	}
	if s := c.policies[p.compiled.Ref.Staged()]; s != nil {
		c.putInForce(s)
		c.relist(s)
		c.dirtyPolicies[s.compiled.Ref] = struct{}{}
	}
}

// counterpartCounts has the staged policy that stands for the same policy as p reported on again: p applies elsewhere.
func (c *Cluster) counterpartCounts(p *policyState) {
	if c.stagedPolicies == 0 {
		return
	}
	if ref := p.compiled.Ref.Staged(); c.policies[ref] != nil {
		c.dirtyPolicies[ref] = struct{}{}
	}
}

// stagedFinding is the finding on a staged policy with what it would change.
func (c *Cluster) stagedFinding(p *policyState) policy.Finding {
	e := policy.StagedEffect{
		Endpoints: len(p.endpoints), Nodes: len(p.nodes),
		Kept: p.staging.kept, Ingress: p.staging.ingress, Egress: p.staging.egress,
	}
	if real := c.counterpart(p); real != nil {
		e.Before, e.BeforeEndpoints = real.compiled, len(real.endpoints)
	}
	return p.compiled.WouldChange(e)
}
