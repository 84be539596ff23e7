// Package addresses puts the operator's leases and the nodes' journals together, without a network and without an API server, so that
// thousands of lives of a cluster can be played through: with operators that see the past, nodes that do not answer, and ends in the
// midst of everything.
package addresses

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// key names an object in the API.
type key struct{ kind, name string }

func keyOf(o client.Object) key {
	return key{reflect.TypeOf(o).Elem().Name(), o.GetNamespace() + "/" + o.GetName()}
}

// api is what an API server does for addresses: it keeps objects, and refuses what was decided on an older form of one.
type api struct {
	objects map[key]client.Object
	version int
}

func newAPI() *api { return &api{objects: map[key]client.Object{}} }

func copyOf(o client.Object) client.Object {
	c, _ := o.DeepCopyObject().(client.Object) // a copy is of the same type
	return c
}

func refusal(make func(schema.GroupResource, string) *apierrors.StatusError, k key) error {
	return make(schema.GroupResource{Resource: k.kind}, k.name)
}

// put stores a new form of an object, whatever there was.
func (a *api) put(o client.Object) {
	a.version++
	if old, ok := a.objects[keyOf(o)]; ok {
		o.SetUID(old.GetUID())
	} else if o.GetUID() == "" {
		o.SetUID(types.UID(strconv.Itoa(a.version)))
	}
	o.SetResourceVersion(strconv.Itoa(a.version))
	a.objects[keyOf(o)] = copyOf(o)
}

func (a *api) remove(o client.Object) { delete(a.objects, keyOf(o)) }

// get is the object of a kind and name as it is now.
func get[T client.Object](a *api, like T) (T, bool) {
	o, ok := a.objects[keyOf(like)].(T)
	if !ok {
		return like, false
	}
	c, ok := o.DeepCopyObject().(T)
	return c, ok
}

var errEnded = errors.New("the operator has ended")

// operator is one operator: what it has seen of the API, and what it compiles from that. It implements the part of client.Client
// that leases need.
type operator struct {
	client.Client
	creating sync.Mutex // blocks are created several at a time
	api      *api
	cache    map[key]client.Object
	world    *live.World
	// writes that it may still do before it ends; negative: no end.
	writes int
}

func newOperator(a *api) (*operator, error) {
	op := &operator{api: a, cache: map[key]client.Object{}, world: live.New(), writes: -1}
	if err := op.look(); err != nil {
		return nil, err
	}
	op.world.Open()
	return op, nil
}

// look has the operator see the API as it is now.
func (op *operator) look() error {
	for k, o := range op.cache {
		if _, ok := op.api.objects[k]; !ok {
			delete(op.cache, k)
			if compiled(o) {
				if err := op.world.Delete(o); err != nil {
					return err
				}
			}
		}
	}
	for k, o := range op.api.objects {
		if old, ok := op.cache[k]; ok && old.GetResourceVersion() == o.GetResourceVersion() {
			continue
		}
		op.cache[k] = copyOf(o)
		if compiled(o) {
			if err := op.world.Set(copyOf(o)); err != nil {
				return err
			}
		}
	}
	return nil
}

func compiled(o client.Object) bool {
	_, affinity := o.(*v3.BlockAffinity)
	return !affinity
}

// render writes the NodeStates that are not as they should be, as far as this operator knows.
func (op *operator) render(nodes []string) {
	for _, name := range nodes {
		like := &v1alpha1.NodeState{}
		like.Name = name
		have, exists := get(op.api, like)
		desired, ok := op.world.Desired(render.Key{Kind: render.KindNodeState, Name: name}).(*v1alpha1.NodeState)
		known, seen := op.cache[keyOf(like)]
		switch {
		case ok && !exists && !seen:
			like.Spec = desired.Spec
			op.api.put(like)
		case ok && exists && seen && known.GetUID() == have.GetUID() && !reflect.DeepEqual(have.Spec, desired.Spec):
			have.Spec = *desired.Spec.DeepCopy()
			op.api.put(have)
		case !ok && exists && seen && known.GetUID() == have.GetUID():
			op.api.remove(have)
		}
	}
}

func (op *operator) Get(_ context.Context, name client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	into.SetName(name.Name)
	k := keyOf(into)
	o, ok := op.cache[k]
	if !ok {
		return refusal(apierrors.NewNotFound, k)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(copyOf(o)).Elem())
	return nil
}

func (op *operator) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	switch list := into.(type) {
	case *v3.IPPoolList:
		list.Items = listed[v3.IPPool](op)
	case *v3.IPReservationList:
		list.Items = listed[v3.IPReservation](op)
	case *v3.IPAMBlockList:
		list.Items = listed[v3.IPAMBlock](op)
	case *v3.BlockAffinityList:
		list.Items = listed[v3.BlockAffinity](op)
	case *v1alpha1.NodeStateList:
		list.Items = listed[v1alpha1.NodeState](op)
	case *corev1.NodeList:
		list.Items = listed[corev1.Node](op)
	case *corev1.PodList:
		list.Items = listed[corev1.Pod](op)
	default:
		return fmt.Errorf("this API has no %T", into)
	}
	return nil
}

func listed[T any](op *operator) []T {
	var out []T
	keys := slices.SortedFunc(maps.Keys(op.cache), func(a, b key) int { return len(a.name) - len(b.name) })
	for _, k := range keys {
		if o, ok := any(op.cache[k]).(interface{ DeepCopyObject() runtime.Object }); ok {
			if item, ok := o.DeepCopyObject().(any).(*T); ok {
				out = append(out, *item)
			}
		}
	}
	return out
}

// may counts a write.
func (op *operator) may() error {
	if op.writes == 0 {
		return errEnded
	}
	if op.writes > 0 {
		op.writes--
	}
	return nil
}

func (op *operator) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	op.creating.Lock()
	defer op.creating.Unlock()
	if err := op.may(); err != nil {
		return err
	}
	if _, exists := op.api.objects[keyOf(o)]; exists {
		return refusal(apierrors.NewAlreadyExists, keyOf(o))
	}
	op.api.put(o)
	return nil
}

func (op *operator) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	if err := op.may(); err != nil {
		return err
	}
	have, exists := op.api.objects[keyOf(o)]
	switch {
	case !exists:
		return refusal(apierrors.NewNotFound, keyOf(o))
	case have.GetResourceVersion() != o.GetResourceVersion():
		return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("it has changed"))
	}
	op.api.put(o)
	return nil
}

func (op *operator) Delete(_ context.Context, o client.Object, options ...client.DeleteOption) error {
	if err := op.may(); err != nil {
		return err
	}
	have, exists := op.api.objects[keyOf(o)]
	if !exists {
		return refusal(apierrors.NewNotFound, keyOf(o))
	}
	var all client.DeleteOptions
	all.ApplyOptions(options)
	if p := all.Preconditions; p != nil && (p.UID != nil && *p.UID != have.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != have.GetResourceVersion()) {
		return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("it has changed"))
	}
	op.api.remove(o)
	return nil
}

// noStatus takes what operators say about pools, which nothing here reads.
type noStatus struct{ client.SubResourceWriter }

func (noStatus) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return nil
}

func (op *operator) Status() client.SubResourceWriter { return noStatus{} }
