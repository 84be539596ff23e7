package inputs

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	adminv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	clusterv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// A kind whose CustomResourceDefinition is there and that is not served yet is looked for again after a delay that doubles up
// to the longest.
const firstLook, longestLook = 100 * time.Millisecond, time.Minute

// OptionalKinds lists one object of every kind that the compiler wants to know of if the cluster has it, by the name of its
// CustomResourceDefinition.
func OptionalKinds() map[string]client.Object {
	return map[string]client.Object{
		"clusternetworkpolicies.policy.networking.k8s.io":       &clusterv1alpha2.ClusterNetworkPolicy{},
		"adminnetworkpolicies.policy.networking.k8s.io":         &adminv1alpha1.AdminNetworkPolicy{},
		"baselineadminnetworkpolicies.policy.networking.k8s.io": &adminv1alpha1.BaselineAdminNetworkPolicy{},
	}
}

// optional are the optional kinds that are not watched yet.
type optional struct {
	feeder  *Feeder
	missing map[string]client.Object
	// appeared tells that a CustomResourceDefinition of an optional kind is there.
	appeared chan struct{}
}

// watchServed watches those that the API server serves now, and returns how to tell that they are known.
func (o *optional) watchServed(ctx context.Context) ([]toolscache.DoneChecker, error) {
	var synced []toolscache.DoneChecker
	for name, kind := range o.missing {
		gvk, err := apiutil.GVKForObject(kind, o.feeder.Scheme)
		if err != nil {
			return nil, fmt.Errorf("looking for the kind of %T: %w", kind, err)
		}
		_, err = o.feeder.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for %s: %w", gvk, err)
		}
		done, err := o.feeder.watch(ctx, kind)
		if err != nil {
			return nil, err
		}
		synced = append(synced, done)
		delete(o.missing, name)
	}
	return synced, nil
}

// follow watches the others as soon as they are served, until ctx ends. A kind that ceases to be served stays watched: its
// objects are deleted before it is.
func (o *optional) follow(ctx context.Context) error {
	definitions := &metav1.PartialObjectMetadata{}
	definitions.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	informer, err := o.feeder.Cache.GetInformer(ctx, definitions, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching CustomResourceDefinitions: %w", err)
	}
	known := OptionalKinds()
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		if definition, ok := obj.(client.Object); ok && known[definition.GetName()] != nil {
			select {
			case o.appeared <- struct{}{}:
			default:
			}
		}
	}})
	if err != nil {
		return fmt.Errorf("following CustomResourceDefinitions: %w", err)
	}
	defer func() { _ = informer.RemoveEventHandler(registration) }()
	delay := firstLook
	look := time.NewTimer(longestLook)
	look.Stop()
	defer look.Stop()
	for len(o.missing) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-o.appeared:
			delay = firstLook
		case <-look.C:
		}
		missing := len(o.missing)
		if _, err := o.watchServed(ctx); err != nil {
			o.feeder.Log.Info("Looking for optional kinds again", "reason", err.Error())
		}
		if len(o.missing) == missing {
			look.Reset(delay)
			delay = min(2*delay, longestLook)
		}
	}
	<-ctx.Done()
	return nil
}
