// Package looks is the queue of controllers that look at all that concerns them together, whatever it was that changed.
package looks

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// A look that failed is tried again after the first of these, and each time twice as long, up to the last.
const firstRetry, lastRetry = 10 * time.Millisecond, 30 * time.Second

// Look is the one thing on the queue.
type Look struct{}

// Setup registers a controller by its name, with one worker, and what makes it look. It runs on the leader alone.
func Setup(mgr manager.Manager, name string, r reconcile.TypedReconciler[Look], sources ...source.TypedSource[Look]) error {
	c, err := controller.NewTyped(name, mgr, controller.TypedOptions[Look]{
		Reconciler:              r,
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[Look](firstRetry, lastRetry),
	})
	if err != nil {
		return fmt.Errorf("making the controller %s: %w", name, err)
	}
	for _, s := range sources {
		if err := c.Watch(s); err != nil {
			return fmt.Errorf("watching what the controller %s depends on: %w", name, err)
		}
	}
	return nil
}

// At makes a controller look at changes of a kind of objects, when they have been gathered for a time (0: at once); only at those that the
// predicates let through.
func At[T client.Object](mgr manager.Manager, gather time.Duration, obj T, only ...predicate.TypedPredicate[T]) source.TypedSource[Look] {
	type queue = workqueue.TypedRateLimitingInterface[Look]
	return source.TypedKind(mgr.GetCache(), obj, handler.TypedFuncs[T, Look]{
		CreateFunc: func(_ context.Context, _ event.TypedCreateEvent[T], q queue) { q.AddAfter(Look{}, gather) },
		UpdateFunc: func(_ context.Context, _ event.TypedUpdateEvent[T], q queue) { q.AddAfter(Look{}, gather) },
		DeleteFunc: func(_ context.Context, _ event.TypedDeleteEvent[T], q queue) { q.AddAfter(Look{}, gather) },
	}, only...)
}

// Of lets through the changes of objects that count, before or after.
func Of[T client.Object](counts func(T) bool) predicate.TypedPredicate[T] {
	return predicate.TypedFuncs[T]{
		CreateFunc:  func(e event.TypedCreateEvent[T]) bool { return counts(e.Object) },
		UpdateFunc:  func(e event.TypedUpdateEvent[T]) bool { return counts(e.ObjectOld) || counts(e.ObjectNew) },
		DeleteFunc:  func(e event.TypedDeleteEvent[T]) bool { return counts(e.Object) },
		GenericFunc: func(e event.TypedGenericEvent[T]) bool { return counts(e.Object) },
	}
}
