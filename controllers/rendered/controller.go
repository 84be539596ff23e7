// Package rendered writes the compiler's results as objects: only those that changed, and at once;
// those that nobody waits for, while all agents follow the stream, at most once a second each.
package rendered

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

const (
	// writers is how many writes are under way at a time. One object is never written twice at once.
	writers = 8
	// A failed write is tried again after a delay that doubles from firstRetry to lastRetry.
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Writer makes the rendered objects in the API equal to what the compiler says.
type Writer struct {
	Client client.Client
	World  *live.World

	pace pace
}

// Setup registers the writer. It runs on the leader alone. What others change, delete or leave behind comes back through
// the compiler: it sees the rendered objects of the API, and reports those that differ from what they must be.
func Setup(mgr manager.Manager, world *live.World) error {
	c, err := controller.NewTyped("rendered", mgr, controller.TypedOptions[render.Key]{
		Reconciler:              &Writer{Client: mgr.GetClient(), World: world},
		MaxConcurrentReconciles: writers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[render.Key](firstRetry, lastRetry),
	})
	if err != nil {
		return fmt.Errorf("making the writer of rendered state: %w", err)
	}
	if err := c.Watch(source.TypedFunc[render.Key](func(_ context.Context, q workqueue.TypedRateLimitingInterface[render.Key]) error {
		world.OnKeys(func(keys []render.Key) {
			add(q, keys, world.Streamed())
		})
		return nil
	})); err != nil {
		return fmt.Errorf("following the compiler: %w", err)
	}
	return nil
}

// add has keys looked at. While all agents follow the stream they wait until these have had the processor, and those that are spared come
// after all others.
func add(q workqueue.TypedRateLimitingInterface[render.Key], keys []render.Key, streamed bool) {
	byPriority, ok := q.(priorityqueue.PriorityQueue[render.Key])
	for _, key := range keys {
		if !ok || !streamed {
			q.Add(key)
			continue
		}
		priority, _ := spared(key.Kind)
		byPriority.AddWithOpts(priorityqueue.AddOpts{After: AfterStream, Priority: &priority}, key)
	}
}

// Reconcile makes one rendered object what the compiler says. It waits until the compiler knows the whole cluster.
func (w *Writer) Reconcile(ctx context.Context, key render.Key) (reconcile.Result, error) {
	if err := w.World.Wait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	have, err := w.have(ctx, key)
	if err != nil {
		return reconcile.Result{}, err
	}
	_, sparing := spared(key.Kind)
	if w.World.Streamed() {
		// What it is by then is written then. It must not be asked for now: that would count as handed out to be written.
		if wait := w.wait(key, have, time.Now()); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
	}
	want, err := w.want(key)
	if err != nil {
		return reconcile.Result{}, err
	}
	do, err := decide(want, have)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("comparing %s %q: %w", key.Kind, key.Name, err)
	}
	switch do {
	case create:
		err = w.create(ctx, want)
	case update:
		err = w.update(ctx, key, want, have)
	case remove:
		err = w.remove(ctx, key, have)
	case nothing:
		w.World.Settled(key)
	}
	if sparing && do != nothing {
		w.pace.note(key, time.Now())
	}
	if err == nil {
		w.pace.settled(key)
	}
	return reconcile.Result{}, err
}

// wait is how long an object may stay as it is in the API, while all agents follow the stream.
func (w *Writer) wait(key render.Key, have client.Object, now time.Time) time.Duration {
	age := w.pace.seen(key, now)
	if _, sparing := spared(key.Kind); sparing {
		if wait := w.pace.wait(key, now); wait > 0 {
			return wait
		}
	}
	if age >= apart || have == nil || key.Kind != render.KindNodeState && key.Kind != render.KindNodeEndpoints {
		return 0
	}
	if want, ok := w.World.ContentOf([]render.Key{key})[0].(client.Object); ok && podsAlone(want, have) {
		return apart - age
	}
	return 0
}

func (w *Writer) want(key render.Key) (client.Object, error) {
	obj := w.World.Desired(key)
	if obj == nil {
		return nil, nil //nolint:nilnil // absent is an answer
	}
	want, ok := obj.(client.Object)
	if !ok {
		return nil, fmt.Errorf("the compiler's %s %q is a %T, which is no object", key.Kind, key.Name, obj)
	}
	return want, nil
}

func (w *Writer) have(ctx context.Context, key render.Key) (client.Object, error) {
	have, err := empty(key.Kind)
	if err != nil {
		return nil, err
	}
	err = w.Client.Get(ctx, types.NamespacedName{Name: key.Name}, have)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", key.Kind, key.Name, err)
	}
	return have, nil
}

func (w *Writer) create(ctx context.Context, want client.Object) error {
	// A copy, for the answer is read into it, and the compiler's object is shared.
	obj, ok := want.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("creating %T %q: its copy is no object", want, want.GetName())
	}
	obj.SetLabels(map[string]string{LabelManagedBy: ManagedBy})
	// An object that exists already is one that the cache has yet to hear of; its event brings the key back.
	if err := w.Client.Create(ctx, obj); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating %T %q: %w", want, want.GetName(), err)
	}
	return nil
}

func (w *Writer) update(ctx context.Context, key render.Key, want, have client.Object) error {
	raw, err := patchOf(want, have)
	if err != nil {
		return fmt.Errorf("updating %s %q: %w", key.Kind, key.Name, err)
	}
	into, err := empty(key.Kind)
	if err != nil {
		return err
	}
	into.SetName(key.Name)
	// One that is gone by now sends an event, which brings the key back.
	if err := w.Client.Patch(ctx, into, client.RawPatch(types.JSONPatchType, raw)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("updating %s %q: %w", key.Kind, key.Name, err)
	}
	return nil
}

func (w *Writer) remove(ctx context.Context, key render.Key, have client.Object) error {
	uid := have.GetUID()
	err := w.Client.Delete(ctx, have, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) { // a conflict: another object by now; its event follows
		return fmt.Errorf("deleting %s %q: %w", key.Kind, key.Name, err)
	}
	return nil
}
