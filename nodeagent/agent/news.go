package agent

import (
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// mark tells which form of an object is known.
type mark struct {
	uid        types.UID
	generation int64
	version    uint64
}

// isNewsTo tells whether an object differs from the form that is known, in more than its status and metadata. The stream tells the node's own
// state with the generation that the API has, when it tells everything anew, and its content may be newer than that.
func (a *Agent) isNewsTo(known mark, o source.Object) bool {
	if o.GetUID() != known.uid || o.GetGeneration() == 0 {
		return true
	}
	if state, ok := o.(*v1alpha1.NodeState); ok && a.nodeState != nil && o.GetGeneration() == known.generation {
		return !equality.Semantic.DeepEqual(&state.Spec, &a.nodeState.Spec)
	}
	return o.GetGeneration() > known.generation
}

// restore takes an object from the checkpoint.
func (a *Agent) restore(kind source.Kind, o source.Object) { a.set(kind, o) }

// takeReported takes what the node's object says was reported of it: lately, or by an earlier agent.
func (a *Agent) takeReported(status *v1alpha1.NodeStateStatus) {
	a.said = max(a.said, status.Sequence)
	if a.reported.Conditions == nil || status.Conditions == nil {
		a.reported = *status    // an earlier agent's report, or none: the object is new
		a.reported.Sequence = 0 // the source's
		a.earlier = a.reported
	}
}

// takeNews brings what gathered in the mailbox into the tables.
func (a *Agent) takeNews() {
	kinds, since := a.box.take()
	if !since.IsZero() && (a.pending.since.IsZero() || since.Before(a.pending.since)) {
		a.pending.since = since
	}
	for _, kind := range source.Kinds() {
		b := kinds[kind]
		if b == nil {
			continue
		}
		if b.replaced {
			for name := range a.known[kind] {
				if b.objects[name] == nil {
					a.remove(kind, name)
				}
			}
			a.known[kind] = maps.Clone(a.known[kind]) // a map keeps the memory of its greatest size
		}
		for name, o := range b.objects {
			if o == nil {
				a.remove(kind, name)
				continue
			}
			if state, ok := o.(*v1alpha1.NodeState); ok {
				a.takeReported(&state.Status)
			}
			known, ok := a.known[kind][name]
			if ok && !a.isNewsTo(known, o) {
				continue
			}
			a.set(kind, o)
			a.Checkpoint.Set(kind, o)
		}
		a.reached[kind] = max(a.reached[kind], b.version)
		a.pending.acknowledge = a.pending.acknowledge || b.awaited
		if b.replaced && !a.synced[kind] {
			a.synced[kind] = true
			a.pending.acknowledge = true
			a.pending.addresses = true
		}
	}
	if len(a.synced) == len(source.Kinds()) {
		if a.Standalone && a.nodeState == nil {
			a.setNoHostEndpoints()
		}
		a.begin("all rendered state was received")
	}
}

// set takes an object that is new or has changed.
func (a *Agent) set(kind source.Kind, o source.Object) {
	name := o.GetName()
	concerns := false
	version := parseVersion(o.GetResourceVersion())
	switch o := o.(type) {
	case *v1alpha1.NodeState:
		if name != a.Node {
			return
		}
		a.takeNodeState(o)
		concerns = true
	case *v1alpha1.NodeEndpoints:
		a.state.SetEndpoints(name, &o.Spec)
	case *v1alpha1.NodeNetwork:
		if !a.Standalone {
			a.state.SetNetwork(name, &o.Spec)
		}
	case *v1alpha1.PolicyProgram:
		concerns = a.state.SetProgram(name, version, &o.Spec)
	case *v1alpha1.SetCatalog:
		concerns = a.state.SetCatalog(name, &o.Spec)
	}
	if a.known[kind] == nil {
		a.known[kind] = map[string]mark{}
	}
	a.known[kind][name] = mark{uid: o.GetUID(), generation: o.GetGeneration(), version: version}
	a.pending.acknowledge = a.pending.acknowledge || concerns
	a.pending.silent = true
}

// setNoHostEndpoints has a host that is no node take the absence of its NodeState for what it says: no HostEndpoint names
// the host, so nothing is policed there.
func (a *Agent) setNoHostEndpoints() {
	a.nodeState = &v1alpha1.NodeState{}
	a.state.SetNodeState(&a.nodeState.Spec)
	a.reported = v1alpha1.NodeStateStatus{}
	a.pending.addresses = true
}

// remove takes the news that an object is gone.
func (a *Agent) remove(kind source.Kind, name string) {
	if _, ok := a.known[kind][name]; !ok {
		return
	}
	concerns := false
	switch kind {
	case source.NodeState:
		if a.Standalone {
			a.setNoHostEndpoints()
			break
		}
		// Without the operator's word the node goes on as it is, and so it does after a restart.
		a.Log.Warn("this node's NodeState is gone; keeping what it said, but for its leases of addresses")
		delete(a.known[kind], name)
		a.pending.addresses = true
		return
	case source.NodeEndpoints:
		a.state.DeleteEndpoints(name)
	case source.NodeNetwork:
		a.state.DeleteNetwork(name)
	case source.PolicyProgram:
		concerns = a.state.DeleteProgram(name)
	case source.SetCatalog:
		concerns = a.state.DeleteCatalog(name)
	}
	delete(a.known[kind], name)
	a.Checkpoint.Delete(kind, name)
	a.pending.acknowledge = a.pending.acknowledge || concerns
	a.pending.silent = true
}
