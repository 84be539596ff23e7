// Package nodeannotations tells users of annotations on nodes that can't be read, by an event on the node.
package nodeannotations

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/manul-net/manul/internal/announce"
	"github.com/manul-net/manul/internal/render"
)

// Reason of the events.
const Reason = "InvalidAnnotation"

// Reporter writes the events. It runs on the leader alone.
type Reporter struct {
	Client client.Client
	Events events.EventRecorder
	Now    func() time.Time

	// told are the mistakes that nodes were told of. There is one worker, so no lock.
	told    map[string][]string
	limiter announce.Limiter[string]
}

// Setup registers the reporter.
func Setup(mgr manager.Manager) error {
	c, err := controller.NewTyped("nodeannotations", mgr, controller.TypedOptions[string]{
		Reconciler:              &Reporter{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("manul-operator"), Now: time.Now, told: map[string][]string{}},
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[string](10*time.Millisecond, 30*time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the reporter on annotations of nodes: %w", err)
	}
	enqueue := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, n *corev1.Node) []string { return []string{n.Name} })
	changed := predicate.TypedFuncs[*corev1.Node]{UpdateFunc: func(e event.TypedUpdateEvent[*corev1.Node]) bool {
		return e.ObjectOld.UID != e.ObjectNew.UID || !maps.Equal(e.ObjectOld.Annotations, e.ObjectNew.Annotations)
	}}
	if err := c.Watch(source.TypedKind(mgr.GetCache(), &corev1.Node{}, enqueue, changed)); err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	return nil
}

// Reconcile tells of the mistakes of one node that it has not been told of.
func (r *Reporter) Reconcile(ctx context.Context, name string) (reconcile.Result, error) {
	node := &corev1.Node{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, node); apierrors.IsNotFound(err) {
		delete(r.told, name)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading node %q: %w", name, err)
	}
	mistakes := render.NodeMistakes(node)
	for _, m := range mistakes {
		if !slices.Contains(r.told[name], m) && r.limiter.Allow(name, m, r.Now()) {
			r.Events.Eventf(node, nil, corev1.EventTypeWarning, Reason, "Read", "%s", announce.Note(m))
		}
	}
	if r.told[name] = mistakes; len(mistakes) == 0 {
		delete(r.told, name)
	}
	return reconcile.Result{}, nil
}
