// Package hostendpoints makes host endpoints for nodes, as the KubeControllersConfiguration "default" asks for, and has them
// follow their nodes.
package hostendpoints

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/looks"
)

// ConfigurationName is the name of the only KubeControllersConfiguration that counts.
const ConfigurationName = "default"

// Maker makes and removes host endpoints. All nodes are looked at together: there are few changes of nodes, and a look costs little. It runs on the leader alone.
type Maker struct {
	Client client.Client
	Events events.EventRecorder

	// warned is what was last said of the configuration. There is one worker, so no lock.
	warned string
}

// Setup registers the maker.
func Setup(mgr manager.Manager) error {
	m := &Maker{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("manul-operator")}
	return looks.Setup(mgr, "hostendpoints", m,
		looks.At(mgr, 0, &v3.KubeControllersConfiguration{}),
		looks.At(mgr, 0, &v3.HostEndpoint{}),
		looks.At(mgr, 0, &corev1.Node{}, predicate.TypedFuncs[*corev1.Node]{UpdateFunc: nodeChanged}),
		looks.At(mgr, 0, &v1alpha1.NodeNetwork{}, predicate.TypedFuncs[*v1alpha1.NodeNetwork]{UpdateFunc: endsChanged}))
}

// nodeChanged tells whether a node is another one to host endpoints: most writes of nodes are heartbeats.
func nodeChanged(e event.TypedUpdateEvent[*corev1.Node]) bool {
	return !maps.Equal(e.ObjectOld.Labels, e.ObjectNew.Labels) || !slices.Equal(addresses(e.ObjectOld), addresses(e.ObjectNew))
}

// endsChanged tells whether a node has other ends of tunnels.
func endsChanged(e event.TypedUpdateEvent[*v1alpha1.NodeNetwork]) bool {
	return !slices.Equal(e.ObjectOld.Spec.Tunnels, e.ObjectNew.Spec.Tunnels)
}

// Reconcile makes the host endpoints what they should be. What is written comes back through the watch.
func (m *Maker) Reconcile(ctx context.Context, _ looks.Look) (reconcile.Result, error) {
	config, hosts, there, err := m.gather(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	s, unsupported, errs := read(config)
	if len(errs) > 0 {
		m.warn(config, warning(nil, errs, nil))
		return reconcile.Result{}, nil
	}
	c := plan(desired(s, hosts), there)
	m.warn(config, warning(unsupported, nil, c.taken))
	return reconcile.Result{}, m.write(ctx, c)
}

func (m *Maker) gather(ctx context.Context) (config *v3.KubeControllersConfiguration, hosts []host, there []*v3.HostEndpoint, err error) {
	config = &v3.KubeControllersConfiguration{}
	if err := m.Client.Get(ctx, client.ObjectKey{Name: ConfigurationName}, config); apierrors.IsNotFound(err) {
		config = nil
	} else if err != nil {
		return nil, nil, nil, fmt.Errorf("reading KubeControllersConfiguration %q: %w", ConfigurationName, err)
	}
	var nodeList corev1.NodeList
	if err := m.Client.List(ctx, &nodeList); err != nil {
		return nil, nil, nil, fmt.Errorf("listing nodes: %w", err)
	}
	var networkList v1alpha1.NodeNetworkList
	if err := m.Client.List(ctx, &networkList); err != nil {
		return nil, nil, nil, fmt.Errorf("listing networks of nodes: %w", err)
	}
	ends := make(map[string][]v1alpha1.TunnelEnd, len(networkList.Items))
	for i := range networkList.Items {
		ends[networkList.Items[i].Name] = networkList.Items[i].Spec.Tunnels
	}
	for i := range nodeList.Items {
		n := &nodeList.Items[i]
		hosts = append(hosts, host{Node: n, ends: ends[n.Name]})
	}
	var hostList v3.HostEndpointList
	if err := m.Client.List(ctx, &hostList); err != nil {
		return nil, nil, nil, fmt.Errorf("listing host endpoints: %w", err)
	}
	for i := range hostList.Items {
		there = append(there, &hostList.Items[i])
	}
	return config, hosts, there, nil
}

// warn tells the user of a configuration what is wrong with it, once.
func (m *Maker) warn(config *v3.KubeControllersConfiguration, message string) {
	if message != "" && message != m.warned && config != nil {
		m.Events.Eventf(config, nil, corev1.EventTypeWarning, "HostEndpoints", "Make", "%s", message)
	}
	m.warned = message
}

// write does all of it that can be done.
func (m *Maker) write(ctx context.Context, c changes) error {
	var errs []error
	for _, h := range c.create {
		// One that is there already is not in the cache yet: its event follows.
		if err := m.Client.Create(ctx, h); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("creating HostEndpoint %s: %w", h.Name, err))
		}
	}
	for _, u := range c.update {
		if err := m.Client.Patch(ctx, u.to, client.MergeFrom(u.from)); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("bringing HostEndpoint %s up to date: %w", u.to.Name, err))
		}
	}
	for _, h := range c.remove {
		// Not one of the same name that somebody has made since.
		err := m.Client.Delete(ctx, h, client.Preconditions{UID: &h.UID, ResourceVersion: &h.ResourceVersion})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("deleting HostEndpoint %s: %w", h.Name, err))
		}
	}
	if n := len(c.create) + len(c.update) + len(c.remove); n > 0 {
		log.FromContext(ctx).Info("Host endpoints follow the nodes", "created", len(c.create), "changed", len(c.update), "deleted", len(c.remove), "failed", len(errs))
	}
	return errors.Join(errs...)
}
