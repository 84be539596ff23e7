package render

import (
	"github.com/manul-net/manul/api/v1alpha1"
)

// compareObserved finds the objects in the API that are not what they should be: written by somebody else, by an operator of
// another version, or left over.
func (c *Cluster) compareObserved() {
	for key := range c.pending.compare {
		if !c.isAsDesired(key) {
			c.dirty[key] = struct{}{}
		}
	}
	clear(c.pending.compare)
}

func (c *Cluster) isAsDesired(key Key) bool {
	switch key.Kind {
	case KindSetCatalog:
		s := c.shards[key.Name]
		if s == nil || s.object == nil {
			return s == nil || len(s.sets) == 0
		}
		spec := s.render()
		return len(s.sets) > 0 && same(&spec, &s.object.Spec)
	case KindPolicyProgram:
		p, o := c.programs[key.Name], c.observedPrograms[key.Name]
		if p == nil || o == nil {
			return p == nil && o == nil
		}
		o.current = same(&p.compiled.Program, &o.object.Spec)
		return o.current
	case KindNodeEndpoints:
		n := c.nodes[key.Name]
		if n == nil || n.endpointsObject == nil {
			return n == nil || !n.exists
		}
		spec := n.renderEndpoints()
		return n.exists && same(&spec, &n.endpointsObject.Spec)
	case KindNodeNetwork:
		n := c.nodes[key.Name]
		if n == nil || n.network == nil {
			return n == nil || !n.exists
		}
		spec := n.renderNetwork()
		return n.exists && same(&spec, &n.network.Spec)
	case KindNodeState:
		n := c.nodes[key.Name]
		if n == nil || n.state == nil {
			return n == nil || !n.exists
		}
		spec := c.renderState(n)
		return n.exists && same(&spec, &n.state.Spec)
	}
	return true
}

// observedProgram is a PolicyProgram in the API.
type observedProgram struct {
	object *v1alpha1.PolicyProgram
	// version is the resource version at which its spec was written.
	version string
	// current: it is what it should be.
	current bool
}

// observeProgram takes in a PolicyProgram as it is in the API. Its resource version also grows when its status is
// written, which is no news to nodes, so the version that counts is the one at which its spec was written: the one at
// which it was first seen, or the one that its status tells.
func (c *Cluster) observeProgram(o *v1alpha1.PolicyProgram) {
	version := o.ResourceVersion
	if before := c.observedPrograms[o.Name]; before != nil && before.object.UID == o.UID && same(&before.object.Spec, &o.Spec) {
		version = before.version
	}
	if told := o.Status.RenderedVersion; told != "" && o.Status.ObservedGeneration == o.Generation && versionLess(told, version) {
		version = told
	}
	c.observedPrograms[o.Name] = &observedProgram{object: o, version: version}
	c.programObserved(o.Name)
}

func (c *Cluster) forgetProgram(name string) {
	delete(c.observedPrograms, name)
	c.programObserved(name)
}

func (c *Cluster) programObserved(name string) {
	c.pending.compare[Key{KindPolicyProgram, name}] = struct{}{}
	if p := c.programs[name]; p != nil {
		c.pending.policies[p] = struct{}{}
	}
}
