package live

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// report is what an agent said of its node. The same comes through the API a moment later; of the two the one with the higher
// sequence counts.
type report struct {
	status *v1alpha1.NodeStateStatus // nil: nothing was said beside the API
	// relayed: it was said to another replica.
	relayed bool
	// state is the NodeState as the API has it; nil: not there.
	state *v1alpha1.NodeState
}

// Report takes in what an agent says of its node, ahead of the API. The status belongs to the World from now on.
func (w *World) Report(node string, status *v1alpha1.NodeStateStatus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.reports[node]
	if r == nil {
		r = &report{}
		w.reports[node] = r
	}
	return w.hear(r, status, false)
}

// Relayed is Report for what an agent said to another replica. It counts until the API says as much or the node is gone: nobody tells when
// the agent leaves that replica. So what is said of a node without a NodeState is not kept.
func (w *World) Relayed(node string, status *v1alpha1.NodeStateStatus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.reports[node]
	if r == nil || r.state == nil {
		return nil
	}
	return w.hear(r, status, true)
}

// hear takes in what is newer than what was heard before.
func (w *World) hear(r *report, status *v1alpha1.NodeStateStatus, relayed bool) error {
	if r.status != nil && r.status.Sequence > status.Sequence {
		return nil
	}
	if r.state != nil && status.Sequence <= r.state.Status.Sequence {
		return nil // the API says as much
	}
	r.status, r.relayed = status, relayed
	return w.observe(r)
}

// Unwritten gives what agents have said here, by node, that the API does not say yet. The statuses are shared: read only.
func (w *World) Unwritten() map[string]*v1alpha1.NodeStateStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := map[string]*v1alpha1.NodeStateStatus{}
	for node, r := range w.reports {
		if r.status != nil && !r.relayed {
			said[node] = r.status
		}
	}
	return said
}

// ForgetReport has the API's word on a node count again: its agent is not heard here any more. What another replica has heard of it since
// stays.
func (w *World) ForgetReport(node string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.reports[node]
	if r == nil || r.status == nil || r.relayed {
		return nil
	}
	r.status = nil
	if r.state == nil {
		delete(w.reports, node)
	}
	return w.observe(r)
}

// observe has the compiler see the node's state with what counts.
func (w *World) observe(r *report) error {
	if r.state == nil {
		return nil // the node has no NodeState yet
	}
	merged := r.merged()
	w.carriers.note(merged)
	if err := w.cluster.Set(merged); err != nil {
		return fmt.Errorf("compiling the report of node %s: %w", r.state.Name, err)
	}
	w.publish()
	return nil
}

func (r *report) merged() *v1alpha1.NodeState {
	if r.status == nil || r.status.Sequence <= r.state.Status.Sequence {
		return r.state
	}
	merged := *r.state
	merged.Status = *r.status
	return &merged
}

// withReport gives a NodeState the newest word of its agent; any other object is left as it is.
func (w *World) withReport(obj runtime.Object) runtime.Object {
	state, ok := obj.(*v1alpha1.NodeState)
	if !ok {
		return obj
	}
	r := w.reports[state.Name]
	if r == nil {
		r = &report{}
		w.reports[state.Name] = r
	}
	r.state = state
	if r.status != nil && r.status.Sequence <= state.Status.Sequence {
		r.status = nil // the API says as much: it need not be kept twice
	}
	merged := r.merged()
	w.carriers.note(merged)
	return merged
}

// State gives the NodeState of a node as the API had it last; nil for none. It is shared: read only.
func (w *World) State(node string) *v1alpha1.NodeState {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.reports[node]; r != nil {
		return r.state
	}
	return nil
}

func (w *World) forgetState(obj runtime.Object) {
	if state, ok := obj.(*v1alpha1.NodeState); ok {
		delete(w.reports, state.Name) // what was said was about the one that is gone
		w.carriers.forget(state.Name)
	}
}

// OnWritten has tell called with the rendered objects as the API has them, as they come. What was there before is not told: it must be
// registered before the informers start. It is called under the World's lock: it must not block nor call the World.
func (w *World) OnWritten(tell func(obj runtime.Object, gone bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onWritten = append(w.onWritten, tell)
}

// OnArrival has see called with the rendered objects that arrive from the API, before anybody else knows them: it may have them share
// memory with what is the same elsewhere.
func (w *World) OnArrival(see func(obj runtime.Object)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onArrival = append(w.onArrival, see)
}

// Arrives is to be called with objects of the API before they enter a cache.
func (w *World) Arrives(obj runtime.Object) {
	w.mu.Lock()
	all := w.onArrival
	w.mu.Unlock()
	for _, see := range all {
		see(obj)
	}
}

func (w *World) tellWritten(obj runtime.Object, gone bool) {
	switch obj.(type) {
	case *v1alpha1.NodeState, *v1alpha1.NodeEndpoints, *v1alpha1.NodeNetwork, *v1alpha1.PolicyProgram, *v1alpha1.SetCatalog:
		for _, tell := range w.onWritten {
			tell(obj, gone)
		}
	}
}

// Settled notes that the writer found an object in the API as it must be, and writes nothing.
func (w *World) Settled(key render.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cluster.Settled(key)
	w.publish()
}

// ContentOf gives what keys are at one moment, to whoever does not write it; nil for what must not exist. The objects are shared: read
// only.
func (w *World) ContentOf(keys []render.Key) []runtime.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Contents(keys)
}
