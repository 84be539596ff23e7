package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
)

// agents stands for the node agents: they put everything into effect at once and say so in NodeState.status. They give
// addresses to endpoints from the node's first block.
type agents struct {
	k *cluster

	mu sync.Mutex
	// held nodes say nothing.
	held map[string]bool
	// carrier by which they say that they hear of news.
	carrier v1alpha1.Carrier
	// failing nodes say what they can't put into effect.
	failing map[string][]v1alpha1.Failure
	// states, generations and applied are what the agents have seen: kind -> version.
	states  map[string]*v1alpha1.NodeState
	gens    map[string]int64
	applied map[string]string
	written map[string]string
	wake    chan struct{}
}

func (k *cluster) agents() *agents {
	k.t.Helper()
	a := &agents{
		k: k, held: map[string]bool{}, failing: map[string][]v1alpha1.Failure{}, states: map[string]*v1alpha1.NodeState{}, gens: map[string]int64{},
		applied: map[string]string{}, written: map[string]string{}, wake: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	var wg sync.WaitGroup
	for kind, list := range map[string]client.ObjectList{
		"NodeState": &v1alpha1.NodeStateList{}, "NodeEndpoints": &v1alpha1.NodeEndpointsList{}, "NodeNetwork": &v1alpha1.NodeNetworkList{},
		"PolicyProgram": &v1alpha1.PolicyProgramList{}, "SetCatalog": &v1alpha1.SetCatalogList{},
	} {
		w, err := k.client.Watch(ctx, list)
		k.must(err, "watching "+kind)
		wg.Go(func() {
			defer w.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case e, ok := <-w.ResultChan():
					if !ok {
						return
					}
					if obj, ok := e.Object.(client.Object); ok {
						a.see(kind, obj, e.Type == "DELETED")
					}
				}
			}
		})
	}
	wg.Go(func() { a.run(ctx) })
	k.t.Cleanup(func() { cancel(); wg.Wait() })
	return a
}

func (a *agents) hold(node string, held bool) {
	a.mu.Lock()
	a.held[node] = held
	a.mu.Unlock()
	a.signal()
}

// fail has a node report failures; none: it is well again.
func (a *agents) fail(node string, failures ...v1alpha1.Failure) {
	a.mu.Lock()
	a.failing[node] = failures
	a.mu.Unlock()
	a.signal()
}

// hear has the agents say that they hear of news by a carrier.
func (a *agents) hear(by v1alpha1.Carrier) {
	a.mu.Lock()
	a.carrier = by
	a.mu.Unlock()
	a.signal()
}

func (a *agents) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *agents) see(kind string, obj client.Object, gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.signal()
	state, isState := obj.(*v1alpha1.NodeState)
	if isState {
		if gone {
			delete(a.states, state.Name)
			return
		}
		a.states[state.Name] = state
		return
	}
	id := kind + "/" + obj.GetName()
	if !gone && a.gens[id] == obj.GetGeneration() {
		return // the status alone changed: no news
	}
	a.gens[id] = obj.GetGeneration()
	if later(obj.GetResourceVersion(), a.applied[kind]) {
		a.applied[kind] = obj.GetResourceVersion()
	}
}

func later(a, b string) bool {
	if b == "" {
		return true
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c > 0
}

func (a *agents) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		for name, status := range a.statuses() {
			// Without failures the patch says so, or those of before would stay.
			raw, err := json.Marshal(map[string]any{"status": struct {
				v1alpha1.NodeStateStatus
				Failures []v1alpha1.Failure `json:"failures"`
			}{status, status.Failures}})
			if err != nil || a.written[name] == string(raw) {
				continue
			}
			into := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
			err = a.k.client.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
			if client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
				a.k.t.Errorf("writing the status of NodeState %s: %v", name, err)
			}
			a.written[name] = string(raw)
		}
	}
}

func (a *agents) statuses() map[string]v1alpha1.NodeStateStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]v1alpha1.NodeStateStatus{}
	for name, state := range a.states {
		if a.held[name] {
			continue
		}
		applied := maps.Clone(a.applied)
		status := v1alpha1.NodeStateStatus{ObservedGeneration: state.Generation, Applied: applied, Carrier: a.carrier, Dataplane: "nftables", Failures: a.failing[name]}
		status.Endpoints = addresses(state)
		status.Summary.Endpoints = int32(len(status.Endpoints))
		out[name] = status
	}
	return out
}

// addresses keeps those that endpoints have and gives new ones to the others.
func addresses(state *v1alpha1.NodeState) []v1alpha1.EndpointStatus {
	if len(state.Spec.Blocks) == 0 {
		return nil
	}
	block, err := netip.ParsePrefix(state.Spec.Blocks[0].CIDR)
	if err != nil {
		return nil
	}
	has := map[types.UID][]string{}
	used := map[string]bool{}
	for _, e := range state.Status.Endpoints {
		has[e.UID] = e.Addresses
		for _, address := range e.Addresses {
			used[address] = true
		}
	}
	var out []v1alpha1.EndpointStatus
	for i := range state.Spec.Endpoints {
		e := &state.Spec.Endpoints[i]
		if has[e.UID] == nil {
			next := block.Addr()
			for used[next.String()] {
				next = next.Next()
			}
			used[next.String()] = true
			has[e.UID] = []string{next.String()}
		}
		out = append(out, v1alpha1.EndpointStatus{ID: e.ID, UID: e.UID, Addresses: has[e.UID]})
	}
	slices.SortFunc(out, func(x, y v1alpha1.EndpointStatus) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	return out
}

// tally counts the writes that change objects of the rendered kinds and of the user API, by kind/name.
type tally struct {
	k      *cluster
	mu     sync.Mutex
	writes []string
}

func (k *cluster) tally() *tally {
	k.t.Helper()
	c := &tally{k: k}
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	var wg sync.WaitGroup
	for kind, list := range tallied() {
		now, _ := list.DeepCopyObject().(client.ObjectList)
		k.must(k.client.List(ctx, now), "listing "+kind)
		w, err := k.client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: now.GetResourceVersion()}})
		k.must(err, "watching "+kind)
		wg.Go(func() {
			defer w.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case e, ok := <-w.ResultChan():
					if !ok {
						return
					}
					// How full a pool is, is told in its status every five seconds at most: see TestPoolStatus.
					if obj, ok := e.Object.(client.Object); ok && (kind != "IPPool" || e.Type != watch.Modified) {
						c.mu.Lock()
						c.writes = append(c.writes, string(e.Type)+" "+kind+" "+obj.GetName())
						c.mu.Unlock()
					}
				}
			}
		})
	}
	k.t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// reaches waits until at least so many writes were made.
func (c *tally) reaches(n int) {
	c.k.t.Helper()
	c.k.eventually("what must be written is", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.writes) < n {
			return fmt.Errorf("%d writes of %d", len(c.writes), n)
		}
		return nil
	})
}

// quiet returns what was written once nothing has been for a while.
func (c *tally) quiet() []string {
	const pause = 3 * time.Second // the operator waits a second at most before it writes a change of nodes
	for n := -1; ; {
		c.mu.Lock()
		now := slices.Clone(c.writes)
		c.mu.Unlock()
		if len(now) == n {
			return now
		}
		n = len(now)
		<-time.After(pause)
	}
}
