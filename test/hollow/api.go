// Package hollow stands for the parts of a large cluster around the operator's compiler and stream: an API server that has just the
// rendered objects, and node agents that speak the real stream without a kernel.
package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// Replica takes in what the API server's watches bring: the compiler of an operator.
type Replica interface {
	Set(obj runtime.Object) error
	Delete(obj runtime.Object) error
}

// API holds the rendered objects that a leader writes, and tells all replicas of them, as the API server's watches would.
type API struct {
	// Delay from a change to its write.
	Delay time.Duration

	mu       sync.Mutex
	replicas []Replica
	objects  map[render.Key]runtime.Object
	version  uint64
	// Writes counts, and Largest is the largest object that was written, bytes of JSON, when Measure is set.
	writes  map[render.Kind]int
	largest map[render.Kind]int
	Measure bool
	// serves: what happens is remembered for watches by HTTP.
	serves    bool
	writer    *Writer
	events    []event
	forgotten uint64
	more      chan struct{}
}

// NewAPI is empty, and tells the given replicas.
func NewAPI(replicas ...Replica) *API {
	return &API{
		replicas: replicas, objects: map[render.Key]runtime.Object{}, version: 1000,
		writes: map[render.Kind]int{}, largest: map[render.Kind]int{}, more: make(chan struct{}),
	}
}

// Lead has the API's objects follow what a replica says until ctx ends.
func (a *API) Lead(ctx context.Context, leader *live.World) error {
	w := NewWriter(leader, a.Delay, a.Write)
	a.mu.Lock()
	a.writer = w
	a.mu.Unlock()
	return w.Run(ctx)
}

// Idle tells whether the leader has written all that it has compiled.
func (a *API) Idle() bool {
	a.mu.Lock()
	w := a.writer
	a.mu.Unlock()
	return w != nil && w.Idle()
}

// Write makes one object what it should be; nil: gone.
func (a *API) Write(key render.Key, want runtime.Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.objects[key]
	if want == nil {
		if have == nil {
			return nil
		}
		delete(a.objects, key)
		a.version++
		gone, err := stamped(have, have, a.version, 0)
		if err != nil {
			return err
		}
		return a.tell(key, gone, true)
	}
	if have != nil && reflect.DeepEqual(render.SpecOf(have), render.SpecOf(want)) {
		return nil
	}
	a.version++
	now, err := stamped(want, have, a.version, 1)
	if err != nil {
		return err
	}
	if a.Measure {
		text, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("encoding %s %s: %w", key.Kind, key.Name, err)
		}
		a.largest[key.Kind] = max(a.largest[key.Kind], len(text))
	}
	a.writes[key.Kind]++
	a.objects[key] = now
	return a.tell(key, now, false)
}

// Status writes the status of a node, as its agent does. It is lost when there is no such NodeState.
func (a *API) Status(node string, status *v1alpha1.NodeStateStatus) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := render.Key{Kind: render.KindNodeState, Name: node}
	have, ok := a.objects[key].(*v1alpha1.NodeState)
	if !ok {
		return nil
	}
	a.version++
	now := *have
	now.Status = *status
	now.ResourceVersion = strconv.FormatUint(a.version, 10)
	a.objects[key] = &now
	return a.tell(key, &now, false)
}

func (a *API) tell(key render.Key, obj runtime.Object, gone bool) error {
	if a.serves {
		a.note(event{key, obj, gone, a.version})
	}
	for _, w := range a.replicas {
		set := w.Set
		if gone {
			set = w.Delete
		}
		if err := set(obj); err != nil {
			return err
		}
	}
	return nil
}

// Get gives an object as it is; nil: there is none.
func (a *API) Get(key render.Key) runtime.Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.objects[key]
}

// All gives all objects by kind.
func (a *API) All() map[render.Kind][]runtime.Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[render.Kind][]runtime.Object{}
	for _, kind := range []render.Kind{
		render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindNodeState,
	} {
		out[kind] = nil
	}
	for key, obj := range a.objects {
		out[key.Kind] = append(out[key.Kind], obj)
	}
	return out
}

// Written counts the writes of each kind, and Largest gives the size of the largest object of each, bytes.
func (a *API) Written() (writes, largest map[render.Kind]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.writes), maps.Clone(a.largest)
}

// stamped is a copy with what an API server adds, and the status of before.
func stamped(obj, before runtime.Object, version uint64, more int64) (runtime.Object, error) {
	now := obj.DeepCopyObject()
	m, ok := now.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("%T is no object", obj)
	}
	generation, uid := int64(0), types.UID(strconv.FormatUint(version, 10))
	if b, ok := before.(metav1.Object); ok && before != nil {
		generation, uid = b.GetGeneration(), b.GetUID()
	}
	m.SetGeneration(generation + more)
	m.SetUID(uid)
	m.SetResourceVersion(strconv.FormatUint(version, 10))
	if state, ok := now.(*v1alpha1.NodeState); ok {
		if b, ok := before.(*v1alpha1.NodeState); ok && b != nil {
			state.Status = b.Status
		}
	}
	return now, nil
}
