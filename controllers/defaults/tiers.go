// Package defaults keeps the objects that a cluster has without anyone making them: the built-in tiers, the default
// settings, and the first address pool.
package defaults

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v3 "github.com/manul-net/manul/api/v3"
)

// Condition of a Tier, and its reason when all is well.
const (
	ConditionReady = "Ready"
	ReasonReady    = "Ready"
)

// BuiltInTiers are the tiers that every cluster has, by name. Users can neither change nor delete them.
func BuiltInTiers() map[string]v3.TierSpec {
	return map[string]v3.TierSpec{
		"kube-admin":    {Order: new(1_000.0), DefaultAction: v3.Pass},
		"default":       {Order: new(1_000_000.0), DefaultAction: v3.Deny},
		"kube-baseline": {Order: new(10_000_000.0), DefaultAction: v3.Pass},
	}
}

// Tiers creates the built-in tiers, restores them when they are edited or deleted, and marks every tier Ready.
type Tiers struct {
	Client client.Client
}

// SetupTiers registers the controller of tiers.
func SetupTiers(mgr manager.Manager) error {
	c, err := controller.New("tiers", mgr, controller.Options{Reconciler: &Tiers{Client: mgr.GetClient()}})
	if err != nil {
		return fmt.Errorf("making the controller of tiers: %w", err)
	}
	builtIn := BuiltInTiers()
	names := make([]string, 0, len(builtIn))
	for name := range builtIn {
		names = append(names, name)
	}
	if err := c.Watch(once(names...)); err != nil {
		return fmt.Errorf("starting with the built-in tiers: %w", err)
	}
	if err := c.Watch(source.Kind(mgr.GetCache(), &v3.Tier{}, &handler.TypedEnqueueRequestForObject[*v3.Tier]{})); err != nil {
		return fmt.Errorf("watching tiers: %w", err)
	}
	return nil
}

// Reconcile makes one tier what it should be.
func (t *Tiers) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	spec, builtIn := BuiltInTiers()[req.Name]
	var tier v3.Tier
	err := t.Client.Get(ctx, req.NamespacedName, &tier)
	switch {
	case apierrors.IsNotFound(err) && !builtIn:
		return reconcile.Result{}, nil
	case apierrors.IsNotFound(err):
		tier = v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: req.Name}, Spec: spec}
		return reconcile.Result{}, ignoreExists(t.Client.Create(ctx, &tier), "creating tier %q", req.Name)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("reading tier %q: %w", req.Name, err)
	}
	if builtIn && !equality.Semantic.DeepEqual(tier.Spec, spec) {
		body := map[string]any{"spec": map[string]any{"order": spec.Order, "defaultAction": spec.DefaultAction}}
		if err := mergePatch(ctx, t.Client, &v3.Tier{}, req.Name, body); err != nil {
			return reconcile.Result{}, fmt.Errorf("restoring the built-in tier %q: %w", req.Name, err)
		}
		return reconcile.Result{}, nil // the patched tier comes back through the watch
	}
	conditions := append([]metav1.Condition(nil), tier.Status.Conditions...)
	if !meta.SetStatusCondition(&conditions, metav1.Condition{
		Type: ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonReady,
		Message: "the tier is in use", ObservedGeneration: tier.Generation,
	}) {
		return reconcile.Result{}, nil
	}
	if err := mergeStatus(ctx, t.Client, &v3.Tier{}, req.Name, v3.TierStatus{Conditions: conditions}); err != nil {
		return reconcile.Result{}, fmt.Errorf("writing the status of tier %q: %w", req.Name, err)
	}
	return reconcile.Result{}, nil
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}
