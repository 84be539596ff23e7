// Package bgpstatus tells users what became of their BGP objects: the conditions Accepted and Established, from what nodes report of
// their sessions, and the status of CalicoNodeStatus.
package bgpstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// pause is how long changes are gathered: a session that comes up on all nodes must not cost a write for each of them.
	pause                 = 200 * time.Millisecond
	firstRetry, lastRetry = 10 * time.Millisecond, 30 * time.Second
)

// look is the one thing on the queue: all objects are looked at together, since one node has sessions of many peers.
type look struct{}

// Reporter writes the conditions of BGP objects. It writes on transitions only.
type Reporter struct {
	Client client.Client
}

// Setup registers the reporter, and the one for CalicoNodeStatus. They run on the leader alone.
func Setup(mgr manager.Manager) error {
	c, err := controller.NewTyped("bgpstatus", mgr, controller.TypedOptions[look]{
		Reconciler:              &Reporter{Client: mgr.GetClient()},
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[look](firstRetry, lastRetry),
	})
	if err != nil {
		return fmt.Errorf("making the reporter on BGP: %w", err)
	}
	for _, s := range []source.TypedSource[look]{
		watch(mgr.GetCache(), &v3.BGPPeer{}), watch(mgr.GetCache(), &v3.BGPFilter{}), watch(mgr.GetCache(), &v3.BGPConfiguration{}),
		watch(mgr.GetCache(), &v1alpha1.NodeState{}, predicate.TypedFuncs[*v1alpha1.NodeState]{UpdateFunc: sessionsChanged}),
	} {
		if err := c.Watch(s); err != nil {
			return fmt.Errorf("watching for BGP: %w", err)
		}
	}
	return setupNodeStatus(mgr)
}

func watch[T client.Object](c cache.Cache, obj T, only ...predicate.TypedPredicate[T]) source.TypedSource[look] {
	type queue = workqueue.TypedRateLimitingInterface[look]
	return source.TypedKind(c, obj, handler.TypedFuncs[T, look]{
		CreateFunc: func(_ context.Context, _ event.TypedCreateEvent[T], q queue) { q.AddAfter(look{}, pause) },
		UpdateFunc: func(_ context.Context, _ event.TypedUpdateEvent[T], q queue) { q.AddAfter(look{}, pause) },
		DeleteFunc: func(_ context.Context, _ event.TypedDeleteEvent[T], q queue) { q.AddAfter(look{}, pause) },
	}, only...)
}

// sessionsChanged tells whether a node has other sessions, or they stand differently: most writes of NodeStates are about pods, and
// counts of prefixes are no news here.
func sessionsChanged(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
	return !slices.EqualFunc(sessions(e.ObjectOld), sessions(e.ObjectNew), func(a, b v1alpha1.BGPSession) bool { return a.Name == b.Name }) ||
		!slices.EqualFunc(groups(e.ObjectOld), groups(e.ObjectNew), func(a, b v1alpha1.BGPGroup) bool {
			return a.Session.Name == b.Session.Name && len(a.Members) == len(b.Members)
		}) || !slices.Equal(e.ObjectOld.Status.BGPGroups, e.ObjectNew.Status.BGPGroups) ||
		!slices.EqualFunc(e.ObjectOld.Status.BGPSessions, e.ObjectNew.Status.BGPSessions, func(a, b v1alpha1.BGPSessionStatus) bool {
			return a.Name == b.Name && a.State == b.State && a.Reason == b.Reason && a.Message == b.Message
		})
}

func sessions(state *v1alpha1.NodeState) []v1alpha1.BGPSession {
	if state.Spec.BGP == nil {
		return nil
	}
	return state.Spec.BGP.Sessions
}

func groups(state *v1alpha1.NodeState) []v1alpha1.BGPGroup {
	if state.Spec.BGP == nil {
		return nil
	}
	return state.Spec.BGP.Groups
}

// Reconcile brings the conditions of all BGP objects up to date. The objects of the cache are shared, and not changed.
func (r *Reporter) Reconcile(ctx context.Context, _ look) (reconcile.Result, error) {
	var stateList v1alpha1.NodeStateList
	var peers v3.BGPPeerList
	var filters v3.BGPFilterList
	var configurations v3.BGPConfigurationList
	for _, list := range []client.ObjectList{&stateList, &peers, &filters, &configurations} {
		if err := r.Client.List(ctx, list); err != nil {
			return reconcile.Result{}, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	states := make([]*v1alpha1.NodeState, 0, len(stateList.Items))
	for i := range stateList.Items {
		states = append(states, &stateList.Items[i])
	}
	slices.SortFunc(states, func(a, b *v1alpha1.NodeState) int { return strings.Compare(a.Name, b.Name) })
	sums, meshSecret := summarize(states)

	var errs []error
	known := map[string]bool{}
	for i := range filters.Items {
		f := &filters.Items[i]
		known[f.Name] = true
		errs = append(errs, r.write(ctx, &v3.BGPFilter{}, f.Name, f.Status.Conditions, filterConditions(f)))
	}
	for i := range configurations.Items {
		c := &configurations.Items[i]
		errs = append(errs, r.write(ctx, &v3.BGPConfiguration{}, c.Name, c.Status.Conditions, configurationConditions(c, meshSecret)))
	}
	for i := range peers.Items {
		p := &peers.Items[i]
		errs = append(errs, r.write(ctx, &v3.BGPPeer{}, p.Name, p.Status.Conditions, peerConditions(p, known, sums[p.Name])))
	}
	return reconcile.Result{}, errors.Join(errs...)
}

// write sets the conditions of an object unless it has them.
func (r *Reporter) write(ctx context.Context, into client.Object, name string, before, now []metav1.Condition) error {
	if equality.Semantic.DeepEqual(before, now) {
		return nil
	}
	into.SetName(name)
	return patchStatus(ctx, r.Client, into, v3.BGPStatus{Conditions: now})
}

// patchStatus carries no resource version: the operator is the only writer of these statuses.
func patchStatus(ctx context.Context, c client.Client, into client.Object, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encoding the status of %T %q: %w", into, into.GetName(), err)
	}
	err = c.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of %T %q: %w", into, into.GetName(), err)
	}
	return nil
}
