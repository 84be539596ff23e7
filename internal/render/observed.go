package render

import (
	"maps"
	"slices"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/parallel"
)

// compareObserved finds the objects in the API that are not what they should be: written by somebody else, by an operator of
// another version, or left over.
func (c *Cluster) compareObserved() {
	keys := slices.Collect(maps.Keys(c.pending.compare))
	differs := make([]bool, len(keys))
	parallel.Each(c.workers, len(keys), func(i int) { differs[i] = !c.isAsDesired(keys[i]) })
	for i, key := range keys {
		if differs[i] {
			c.dirty[key] = struct{}{}
		}
	}
	c.pending.compare = emptied(c.pending.compare)
}

// isAsDesired may be asked about several keys at a time: what it notes (lists of an endpoint, whether a program is current) belongs to the
// key's own node or program, and nobody else reads it meanwhile.
func (c *Cluster) isAsDesired(key Key) bool {
	switch key.Kind {
	case KindSetCatalog:
		return c.shards[key.Name] == nil || c.shards[key.Name].isAsDesired()
	case KindPolicyProgram:
		return c.programIsAsDesired(key.Name)
	case KindNodeEndpoints, KindNodeNetwork, KindNodeState:
		return c.nodes[key.Name] == nil || c.nodeIsAsDesired(c.nodes[key.Name], key.Kind)
	}
	return true
}

func (s *shard) isAsDesired() bool {
	if s.object == nil || len(s.sets) == 0 {
		return s.object == nil && len(s.sets) == 0
	}
	spec := s.render()
	return Same(&spec, &s.object.Spec)
}

func (c *Cluster) programIsAsDesired(name string) bool {
	p, o := c.programs[name], c.observedPrograms[name]
	if p == nil || o == nil {
		return p == nil && o == nil
	}
	o.current = Same(&p.compiled.Program, &o.object.Spec)
	return o.current
}

// nodeIsAsDesired compares the node's object of a kind.
func (c *Cluster) nodeIsAsDesired(n *node, kind Kind) bool {
	switch {
	case kind == KindNodeEndpoints && n.endpointsObject != nil && n.hasAgent():
		spec := n.renderEndpoints()
		return Same(&spec, &n.endpointsObject.Spec)
	case kind == KindNodeNetwork && n.network != nil && n.exists:
		spec := c.renderNetwork(n)
		return Same(&spec, &n.network.Spec)
	case kind == KindNodeState && n.state != nil && n.hasAgent():
		spec := c.renderState(n)
		return Same(&spec, &n.state.Spec)
	}
	should := n.hasAgent()
	if kind == KindNodeNetwork {
		should = n.exists
	}
	return !should && !n.has(kind)
}

// has tells whether there is an object of a kind for the node.
func (n *node) has(kind Kind) bool {
	switch kind {
	case KindNodeEndpoints:
		return n.endpointsObject != nil
	case KindNodeNetwork:
		return n.network != nil
	case KindNodeState:
		return n.state != nil
	default:
		return false
	}
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
	if before := c.observedPrograms[o.Name]; before != nil && before.object.UID == o.UID && Same(&before.object.Spec, &o.Spec) {
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
