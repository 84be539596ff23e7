// Package live shares one compiler among goroutines: the informers feed it, and the controllers learn which results
// changed. It holds nothing of its own but the lock and the list of those who want to know.
package live

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/render"
)

// World is the cluster as the compiler sees it. Nothing comes out of it before Open: a compiler that knows half of the
// cluster would have rendered state deleted.
type World struct {
	opened chan struct{}

	mu         sync.Mutex
	cluster    *render.Cluster
	isOpen     bool
	keys       map[render.Key]struct{}       // every key that has been dirty and may still be rendered
	fresh      []render.Key                  // those of them that came last
	policies   map[render.PolicyRef]struct{} // the same for policies
	onKeys     []func([]render.Key)
	onPolicies []func([]render.PolicyRef)
	onDemand   []func()
	onWritten  []func(obj runtime.Object, gone bool)
	onArrival  []func(obj runtime.Object)
	// reports that agents gave on another way than through the API, by node.
	reports map[string]*report
	// carriers: whether the agent of a node follows the stream, for those that have spoken.
	carriers carriers
}

// New returns a World around an empty compiler.
func New() *World {
	return &World{
		opened:   make(chan struct{}),
		cluster:  render.New(),
		keys:     make(map[render.Key]struct{}),
		policies: make(map[render.PolicyRef]struct{}),
		reports:  make(map[string]*report),
		carriers: carriers{of: make(map[string]bool)},
	}
}

// Set tells the compiler of an object that is there. The object belongs to the World from now on and must not change.
func (w *World) Set(obj runtime.Object) error {
	prepared := render.Prepare(obj) // before the lock: policies of several kinds are compiled at a time
	w.mu.Lock()
	defer w.mu.Unlock()
	obj = w.withReport(obj)
	prepared.Object = obj
	if err := w.cluster.SetPrepared(prepared); err != nil {
		return fmt.Errorf("compiling %T: %w", obj, err)
	}
	w.tellWritten(obj, false)
	w.publish()
	w.tellDemand(obj)
	return nil
}

// Delete tells the compiler that an object is gone.
func (w *World) Delete(obj runtime.Object) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgetState(obj)
	if err := w.cluster.Delete(obj); err != nil {
		return fmt.Errorf("compiling without %T: %w", obj, err)
	}
	w.tellWritten(obj, true)
	w.publish()
	w.tellDemand(obj)
	w.forget(obj)
	return nil
}

// UseNodePodCIDRs has nodes give their pods addresses of their own spec.podCIDRs instead of leased blocks.
func (w *World) UseNodePodCIDRs(use bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cluster.UseNodePodCIDRs(use)
}

// AllowUnmanagedAddresses lets pods have addresses without address management. They are refused otherwise.
func (w *World) AllowUnmanagedAddresses(allow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cluster.AllowUnmanagedAddresses(allow)
}

// KeepDeniedConnections has nodes let connections go on that policies have come to deny. They are ended otherwise.
func (w *World) KeepDeniedConnections(keep bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cluster.KeepDeniedConnections(keep)
	w.publish()
}

// Open says that the compiler now knows the whole cluster.
func (w *World) Open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isOpen {
		return
	}
	w.isOpen = true
	close(w.opened)
	w.publish()
	w.tellDemand(nil)
}

// IsOpen tells whether the compiler knows the whole cluster.
func (w *World) IsOpen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isOpen
}

// Wait returns once the compiler knows the whole cluster.
func (w *World) Wait(ctx context.Context) error {
	select {
	case <-w.opened:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting until all objects of the cluster are known: %w", context.Cause(ctx))
	}
}

// publish passes on what changed. It runs under the lock, so that everybody hears of changes in their order; those who
// listen only note down what they hear.
func (w *World) publish() {
	if !w.isOpen {
		return
	}
	w.fresh = w.fresh[:0]
	if keys := w.cluster.Dirty(); len(keys) > 0 {
		for _, key := range keys {
			if _, known := w.keys[key]; !known {
				w.keys[key] = struct{}{}
				w.fresh = append(w.fresh, key)
			}
		}
		for _, tell := range w.onKeys {
			tell(keys)
		}
	}
	if refs := w.cluster.DirtyPolicies(); len(refs) > 0 {
		for _, ref := range refs {
			w.policies[ref] = struct{}{}
		}
		for _, tell := range w.onPolicies {
			tell(refs)
		}
	}
}

// tellDemand passes on that the nodes or their endpoints changed, on which the addresses that they need depend. No
// object stands for all of them.
func (w *World) tellDemand(obj runtime.Object) {
	switch obj.(type) {
	case nil, *corev1.Node, *corev1.Pod, *render.Pod:
	default:
		return
	}
	if !w.isOpen {
		return
	}
	for _, tell := range w.onDemand {
		tell()
	}
}
