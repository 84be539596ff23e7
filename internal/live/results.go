package live

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
)

// Desired returns what key must be, or nil when it must not exist. The object is shared: read only.
func (w *World) Desired(key render.Key) runtime.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Desired(key)
}

// Policy returns what became of a policy, and false when the policy is gone.
func (w *World) Policy(ref render.PolicyRef) (render.PolicyReport, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Policy(ref)
}

// Demand returns how many addresses each node needs.
func (w *World) Demand() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.cluster.Demand())
}

// Present counts, by node, which of some endpoints there are.
func (w *World) Present(endpoints map[string][]v1alpha1.EndpointStatus) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Present(endpoints)
}

// Bound tells to which of some nodes, whether they exist or not, pods are bound that have a network of their own and have not ended.
func (w *World) Bound(nodes map[string]bool) map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Bound(nodes)
}

// forget drops what has ceased to be from the lists that newcomers get (OnKeys, OnPolicies), lest they grow for ever in
// an operator that does not write.
func (w *World) forget(gone runtime.Object) {
	for _, key := range w.fresh {
		w.forgetKey(key) // touched by the deletion, and not there either
	}
	switch o := gone.(type) {
	case *v1alpha1.NodeState:
		w.forgetKey(render.Key{Kind: render.KindNodeState, Name: o.Name})
	case *v1alpha1.NodeEndpoints:
		w.forgetKey(render.Key{Kind: render.KindNodeEndpoints, Name: o.Name})
	case *v1alpha1.NodeNetwork:
		w.forgetKey(render.Key{Kind: render.KindNodeNetwork, Name: o.Name})
	case *v1alpha1.PolicyProgram:
		w.forgetKey(render.Key{Kind: render.KindPolicyProgram, Name: o.Name})
	case *v1alpha1.SetCatalog:
		w.forgetKey(render.Key{Kind: render.KindSetCatalog, Name: o.Name})
	default:
		if ref, ok := policy.RefOf(gone); ok {
			delete(w.policies, ref)
		}
	}
}

func (w *World) forgetKey(key render.Key) {
	if w.isOpen && w.cluster.Desired(key) == nil {
		delete(w.keys, key)
	}
}

// OnKeys has tell called with all keys that there are, and from then on with those that changed, in writing order. It
// is called under the World's lock: it must not block nor call the World.
func (w *World) OnKeys(tell func([]render.Key)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onKeys = append(w.onKeys, tell)
	if len(w.keys) > 0 {
		tell(slices.SortedFunc(maps.Keys(w.keys), WritingOrder))
	}
}

// OnPolicies is OnKeys for the reports on policies.
func (w *World) OnPolicies(tell func([]render.PolicyRef)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onPolicies = append(w.onPolicies, tell)
	if len(w.policies) > 0 {
		tell(slices.Collect(maps.Keys(w.policies)))
	}
}

// OnDemand has tell called when the addresses that nodes need may have changed.
func (w *World) OnDemand(tell func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onDemand = append(w.onDemand, tell)
	if w.isOpen {
		tell()
	}
}

// WritingOrder puts what is referred to before what refers to it.
func WritingOrder(a, b render.Key) int {
	return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Name, b.Name))
}

func rank(kind render.Kind) int {
	return slices.Index([]render.Kind{
		render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindNodeState,
	}, kind)
}

// Pods tells how selectors see the pods of a namespace that have a network of their own; of all namespaces with an empty one; and of so many
// at most.
func (w *World) Pods(namespace string, most int) []policy.EndpointLabels {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cluster.Pods(namespace, most)
}
