package defaults

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v3 "github.com/manul-net/manul/api/v3"
)

// SettingsName is the name of the settings that hold for the whole cluster.
const SettingsName = "default"

// Settings creates the FelixConfiguration "default" when there is none. Users edit it; nothing is restored.
type Settings struct {
	Client client.Client
}

// SetupSettings registers the controller of the default settings.
func SetupSettings(mgr manager.Manager) error {
	c, err := controller.New("settings", mgr, controller.Options{Reconciler: &Settings{Client: mgr.GetClient()}})
	if err != nil {
		return fmt.Errorf("making the controller of the default settings: %w", err)
	}
	if err := c.Watch(once(SettingsName)); err != nil {
		return fmt.Errorf("starting with the default settings: %w", err)
	}
	felix := source.Kind(mgr.GetCache(), &v3.FelixConfiguration{}, &handler.TypedEnqueueRequestForObject[*v3.FelixConfiguration]{})
	if err := c.Watch(felix); err != nil {
		return fmt.Errorf("watching FelixConfigurations: %w", err)
	}
	return nil
}

// Reconcile creates the default settings when they are absent.
func (s *Settings) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req.Name != SettingsName {
		return reconcile.Result{}, nil
	}
	err := s.Client.Get(ctx, req.NamespacedName, &v3.FelixConfiguration{})
	if !apierrors.IsNotFound(err) {
		if err != nil {
			err = fmt.Errorf("reading FelixConfiguration %q: %w", req.Name, err)
		}
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, ignoreExists(s.Client.Create(ctx, defaultSettings()), "creating FelixConfiguration %q", req.Name)
}

// defaultSettings let pods reach their own node, as users of the API know it: without a word on it, that traffic is dropped.
func defaultSettings() *v3.FelixConfiguration {
	felix := &v3.FelixConfiguration{ObjectMeta: metav1.ObjectMeta{Name: SettingsName}}
	felix.Spec.DefaultEndpointToHostAction = "Accept"
	return felix
}
