// Package podaddresses tells users why their pods have no address, by an event on the pod: an annotation that asks for what can't be had,
// a pool whose addresses are all in use.
package podaddresses

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/announce"
	"github.com/manul-net/manul/internal/usage"
)

const (
	// patience is how long a pod may lack an address that a block on its way could give it, before that is told.
	patience = 3 * time.Second
	// fresh is how long an account of all pools is good enough for what events say.
	fresh = time.Second
)

// Reporter writes the events. It runs on the leader alone.
type Reporter struct {
	Client client.Client
	Events events.EventRecorder
	Now    func() time.Time

	// There is one worker, so no locks.
	nodes   map[string]map[types.UID]*pod
	limiter announce.Limiter[types.UID]
	account *usage.Account
	asOf    time.Time
}

// pod is a pod that lacks an address.
type pod struct {
	id    string
	since time.Time
	// told are the keys of the troubles that it was told of.
	told []string
}

// Setup registers the reporter.
func Setup(mgr manager.Manager) error {
	r := &Reporter{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("manul-operator"), Now: time.Now, nodes: map[string]map[types.UID]*pod{}}
	c, err := controller.NewTyped("podaddresses", mgr, controller.TypedOptions[string]{
		Reconciler:              r,
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[string](10*time.Millisecond, 30*time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the reporter on pods without an address: %w", err)
	}
	enqueue := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, s *v1alpha1.NodeState) []string { return []string{s.Name} })
	only := predicate.TypedFuncs[*v1alpha1.NodeState]{UpdateFunc: r.concerns}
	if err := c.Watch(source.TypedKind(mgr.GetCache(), &v1alpha1.NodeState{}, enqueue, only)); err != nil {
		return fmt.Errorf("following what nodes report: %w", err)
	}
	return nil
}

// concerns tells whether an update may be news here: most are about pods that have what they need.
func (r *Reporter) concerns(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
	return len(troublesOf(e.ObjectOld)) > 0 || len(troublesOf(e.ObjectNew)) > 0
}

// Reconcile tells the pods of a node what they have not been told yet.
func (r *Reporter) Reconcile(ctx context.Context, node string) (reconcile.Result, error) {
	state := &v1alpha1.NodeState{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: node}, state); apierrors.IsNotFound(err) {
		r.forget(node, nil)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading NodeState %q: %w", node, err)
	}
	var again time.Duration
	there := map[types.UID]bool{}
	said := map[types.UID][]string{}
	for _, t := range troublesOf(state) {
		there[t.uid] = true
		p := r.pod(node, t)
		if !t.settled {
			if left := patience - r.Now().Sub(p.since); left > 0 {
				if again == 0 || left < again {
					again = left
				}
				said[t.uid] = p.told
				continue
			}
		}
		if len(t.pools) > 0 {
			account, err := r.pools(ctx)
			if err != nil {
				return reconcile.Result{}, err
			}
			t = t.explained(account)
		}
		if !slices.Contains(p.told, t.key()) && r.limiter.Allow(t.uid, t.key(), r.Now()) {
			r.Events.Eventf(objectOf(t.id, t.uid), nil, corev1.EventTypeWarning, t.reason, "Address", "%s", announce.Note(t.message))
		}
		said[t.uid] = append(said[t.uid], t.key())
	}
	for uid, keys := range said {
		r.nodes[node][uid].told = keys
	}
	r.given(node, state, there)
	r.forget(node, there)
	return reconcile.Result{RequeueAfter: again}, nil
}

// pod is what is known of a pod in trouble.
func (r *Reporter) pod(node string, t trouble) *pod {
	if r.nodes[node] == nil {
		r.nodes[node] = map[types.UID]*pod{}
	}
	p := r.nodes[node][t.uid]
	if p == nil {
		p = &pod{id: t.id, since: r.Now()}
		r.nodes[node][t.uid] = p
	}
	return p
}

// given tells the pods that were told of trouble and have their address now.
func (r *Reporter) given(node string, state *v1alpha1.NodeState, there map[types.UID]bool) {
	for i := range state.Status.Endpoints {
		e := &state.Status.Endpoints[i]
		p := r.nodes[node][e.UID]
		if p == nil || there[e.UID] || len(p.told) == 0 || len(e.Addresses) == 0 {
			continue
		}
		if r.limiter.Allow(e.UID, ReasonAddressGiven, r.Now()) {
			r.Events.Eventf(objectOf(e.ID, e.UID), nil, corev1.EventTypeNormal, ReasonAddressGiven, "Address", "the pod has %s", strings.Join(e.Addresses, " and "))
		}
	}
}

// forget lets go of the pods of a node that are in trouble no more.
func (r *Reporter) forget(node string, there map[types.UID]bool) {
	for uid := range r.nodes[node] {
		if !there[uid] {
			delete(r.nodes[node], uid)
		}
	}
	if len(r.nodes[node]) == 0 {
		delete(r.nodes, node)
	}
}

// pools accounts for the addresses of all pools, at most once in a while.
func (r *Reporter) pools(ctx context.Context) (*usage.Account, error) {
	if r.account != nil && r.Now().Sub(r.asOf) < fresh {
		return r.account, nil
	}
	var pools v3.IPPoolList
	var states v1alpha1.NodeStateList
	for _, list := range []client.ObjectList{&pools, &states} {
		if err := r.Client.List(ctx, list); err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	r.account, r.asOf = usage.Of(&usage.Cluster{Pools: pools.Items, NodeStates: states.Items}), r.Now()
	return r.account, nil
}

func objectOf(id string, uid types.UID) *corev1.Pod {
	namespace, name, _ := strings.Cut(id, "/")
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}}
}
