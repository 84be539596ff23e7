// Package poolstatus tells users how full their pools are: in the status of each IPPool, by an event when one is nearly exhausted, and to
// Prometheus, with what nodes report of themselves.
package poolstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/looks"
	"github.com/manul-net/manul/internal/usage"
)

const (
	// gather is how long changes are gathered: pods come in crowds.
	gather = 500 * time.Millisecond
	// interval is the least time between two writes of a pool's status, and of two looks at the cluster.
	interval = 5 * time.Second
	// A look goes over all addresses in use. The next one waits rest times as long as the last one took.
	rest = 10
)

// Reporter writes the status of pools. It runs on the leader alone.
type Reporter struct {
	Client client.Client
	Events events.EventRecorder
	Now    func() time.Time

	metrics *collector
	// notBefore is when the next look may be. There is one worker, so no lock.
	notBefore time.Time
}

// Setup registers the reporter.
func Setup(mgr manager.Manager) error {
	r := &Reporter{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("manul-operator"), Now: time.Now, metrics: newCollector()}
	if err := r.metrics.register(metrics.Registry); err != nil {
		return err
	}
	mine := predicate.TypedFuncs[*v1alpha1.NodeState]{UpdateFunc: reportsChanged}
	return looks.Setup(mgr, "poolstatus", r,
		looks.At(mgr, gather, &v3.IPPool{}), looks.At(mgr, gather, &v3.IPAMBlock{}), looks.At(mgr, gather, &v1alpha1.NodeState{}, mine),
		looks.At(mgr, gather, &corev1.Service{}, looks.Of(balanced)))
}

func balanced(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// reportsChanged tells whether a node reports anything that counts here.
func reportsChanged(e event.TypedUpdateEvent[*v1alpha1.NodeState]) bool {
	before, now := &e.ObjectOld.Status, &e.ObjectNew.Status
	return !slices.EqualFunc(before.Endpoints, now.Endpoints, func(a, b v1alpha1.EndpointStatus) bool {
		return a.ID == b.ID && a.UID == b.UID && slices.Equal(a.Addresses, b.Addresses)
	}) || !slices.Equal(before.Tunnels, now.Tunnels) || !slices.Equal(before.Failures, now.Failures) ||
		meta.IsStatusConditionTrue(before.Conditions, conditionReady) != meta.IsStatusConditionTrue(now.Conditions, conditionReady) ||
		!slices.Equal(before.BGPGroups, now.BGPGroups) ||
		!slices.EqualFunc(before.BGPSessions, now.BGPSessions, func(a, b v1alpha1.BGPSessionStatus) bool { return a.Name == b.Name && a.State == b.State })
}

// Reconcile brings the status of all pools up to date, no more often than every interval. The objects of the cache are shared, and
// not changed.
func (r *Reporter) Reconcile(ctx context.Context, _ looks.Look) (reconcile.Result, error) {
	started := r.Now()
	if wait := r.notBefore.Sub(started); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	seen, err := r.see(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	account := usage.Of(seen)
	r.metrics.last.Store(&sight{account: account, nodes: nodesOf(seen.NodeStates)})
	objects := map[string]*v3.IPPool{}
	for i := range seen.Pools {
		objects[seen.Pools[i].Name] = &seen.Pools[i]
	}
	var errs []error
	for i := range account.Pools {
		p := &account.Pools[i]
		o := objects[p.Name]
		now := statusOf(o, p)
		if same(&o.Status, &now) {
			continue
		}
		r.notBefore = r.Now().Add(max(interval, rest*r.Now().Sub(started)))
		errs = append(errs, r.write(ctx, o, &now))
	}
	if least := r.Now().Add(rest * r.Now().Sub(started)); r.notBefore.Before(least) {
		r.notBefore = least
	}
	return reconcile.Result{}, errors.Join(errs...)
}

func (r *Reporter) see(ctx context.Context) (*usage.Cluster, error) {
	var pools v3.IPPoolList
	var blocks v3.IPAMBlockList
	var states v1alpha1.NodeStateList
	var services corev1.ServiceList
	for _, list := range []client.ObjectList{&pools, &blocks, &states, &services} {
		if err := r.Client.List(ctx, list); err != nil {
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	return &usage.Cluster{Pools: pools.Items, Blocks: blocks.Items, NodeStates: states.Items, Services: services.Items}, nil
}

// write sets a pool's status. Another controller writes a condition there: so only onto what was looked at.
func (r *Reporter) write(ctx context.Context, o *v3.IPPool, now *v3.IPPoolStatus) error {
	status := map[string]any{
		"conditions": now.Conditions, "capacity": now.Capacity, "allocated": now.Allocated, "blocks": now.Blocks, "nodeCount": now.NodeCount,
		"nodes": now.Nodes, // null, when there are none, takes away those of before
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": o.ResourceVersion}, "status": status})
	if err != nil {
		return fmt.Errorf("encoding the status of IPPool %q: %w", o.Name, err)
	}
	into := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: o.Name}}
	err = r.Client.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return nil // the watch brings what it is now
	case err != nil:
		return fmt.Errorf("writing the status of IPPool %q: %w", o.Name, err)
	}
	r.announce(o, now)
	return nil
}

// announce has an event tell of a pool that is nearly exhausted, or no longer: transitions that are apart by what low and high are.
func (r *Reporter) announce(o *v3.IPPool, now *v3.IPPoolStatus) {
	was := meta.FindStatusCondition(o.Status.Conditions, v3.ConditionNearlyExhausted)
	is := meta.FindStatusCondition(now.Conditions, v3.ConditionNearlyExhausted)
	switch {
	case is == nil:
	case is.Status == metav1.ConditionTrue && (was == nil || was.Status != is.Status):
		r.Events.Eventf(o, nil, corev1.EventTypeWarning, is.Reason, "Allocate", "%s", is.Message)
	case is.Status == metav1.ConditionFalse && was != nil && was.Status == metav1.ConditionTrue:
		r.Events.Eventf(o, nil, corev1.EventTypeNormal, is.Reason, "Allocate", "%s", is.Message)
	}
}
