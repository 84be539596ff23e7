// Package inputs feeds the compiler: every object that rendered state depends on, as the cluster's API tells of it.
package inputs

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/live"
	"github.com/manul-net/manul/internal/render"
)

// Kinds lists one object of every kind that the compiler wants to know of.
func Kinds() []client.Object {
	return []client.Object{
		&corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.Node{}, &corev1.Pod{},
		&corev1.Service{}, &discoveryv1.EndpointSlice{}, &networkingv1.NetworkPolicy{},
		&v3.Tier{}, &v3.NetworkPolicy{}, &v3.GlobalNetworkPolicy{},
		&v3.StagedNetworkPolicy{}, &v3.StagedGlobalNetworkPolicy{}, &v3.StagedKubernetesNetworkPolicy{},
		&v3.NetworkSet{}, &v3.GlobalNetworkSet{}, &v3.HostEndpoint{},
		&v3.IPPool{}, &v3.IPReservation{}, &v3.IPAMConfiguration{}, &v3.IPAMBlock{}, &v3.FelixConfiguration{},
		&v3.BGPConfiguration{}, &v3.BGPPeer{}, &v3.BGPFilter{}, &v3.CalicoNodeStatus{},
		&v1alpha1.NodeState{}, &v1alpha1.NodeEndpoints{}, &v1alpha1.NodeNetwork{},
		&v1alpha1.PolicyProgram{}, &v1alpha1.SetCatalog{},
	}
}

// Feeder runs on every replica, leader or not, so that a new leader need not compile the cluster first.
type Feeder struct {
	Cache  cache.Cache
	Scheme *runtime.Scheme
	Mapper meta.RESTMapper
	World  *live.World
	Log    logr.Logger
}

// Setup registers the feeder.
func Setup(mgr manager.Manager, world *live.World) error {
	feeder := &Feeder{
		Cache: mgr.GetCache(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), World: world, Log: mgr.GetLogger().WithName("inputs"),
	}
	if err := mgr.Add(feeder); err != nil {
		return fmt.Errorf("adding the compiler's inputs: %w", err)
	}
	return nil
}

// NeedLeaderElection is false: all replicas compile, only the leader writes.
func (f *Feeder) NeedLeaderElection() bool { return false }

// Start feeds the compiler until ctx ends, and opens the World once every object that existed at the start is in it.
func (f *Feeder) Start(ctx context.Context) error {
	started := time.Now()
	var synced []toolscache.DoneChecker
	for _, kind := range Kinds() {
		done, err := f.watch(ctx, kind)
		if err != nil {
			return err
		}
		synced = append(synced, done)
	}
	// An optional kind that is there must be known as well: without its policies traffic would pass that they deny.
	others := &optional{feeder: f, missing: OptionalKinds(), appeared: make(chan struct{}, 1)}
	served, err := others.watchServed(ctx)
	if err != nil {
		return err
	}
	synced = append(synced, served...)
	if !toolscache.WaitFor(ctx, "", synced...) {
		return nil // ctx ended
	}
	f.World.Open()
	f.Log.Info("Compiled the cluster", "took", time.Since(started).Round(time.Millisecond))
	return others.follow(ctx)
}

// watch passes on what happens to objects of a kind, and returns how to tell that all that existed at first are known.
func (f *Feeder) watch(ctx context.Context, kind client.Object) (toolscache.DoneChecker, error) {
	informer, err := f.Cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching %T: %w", kind, err)
	}
	registration, err := informer.AddEventHandler(f.handler())
	if err != nil {
		return nil, fmt.Errorf("following %T: %w", kind, err)
	}
	return registration.HasSyncedChecker(), nil
}

// handler passes events on in their order. Within a kind the order is that of the API server; between kinds there is
// none, and the compiler's result does not depend on it.
func (f *Feeder) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { f.set(obj) },
		UpdateFunc: func(old, obj any) {
			if !unchanged(old, obj) {
				f.set(obj)
			}
		},
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if obj, ok := obj.(runtime.Object); ok {
				f.report(f.World.Delete(obj), obj)
			}
		},
	}
}

func (f *Feeder) set(obj any) {
	if obj, ok := obj.(runtime.Object); ok {
		f.report(f.World.Set(obj), obj)
	}
}

// report logs what the compiler could not take: an object of a kind that it does not know, which is a mistake in Kinds.
// What users got wrong is not an error here but a finding on their object.
func (f *Feeder) report(err error, obj runtime.Object) {
	if err != nil {
		f.Log.Error(err, "Object left out", "kind", fmt.Sprintf("%T", obj))
	}
}

// unchanged recognizes the updates that are no news: kubelets write the status of pods and nodes all the time, and after
// trimming nothing is left of that but the resource version.
func unchanged(old, obj any) bool {
	switch before := old.(type) {
	case *render.Pod:
		after, ok := obj.(*render.Pod)
		return ok && before.Same(after)
	case *corev1.Node:
		after, ok := obj.(*corev1.Node)
		return ok && sameNode(before, after)
	case *v3.BGPPeer:
		after, ok := obj.(*v3.BGPPeer)
		return ok && before.UID == after.UID && before.Generation == after.Generation // its status is the operator's own
	case *v3.CalicoNodeStatus:
		after, ok := obj.(*v3.CalicoNodeStatus)
		return ok && before.UID == after.UID && before.Generation == after.Generation
	}
	return false
}

func sameNode(a, b *corev1.Node) bool {
	x, y := *a, *b
	x.ResourceVersion, y.ResourceVersion = "", ""
	return equality.Semantic.DeepEqual(&x, &y)
}
