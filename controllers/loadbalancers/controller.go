// Package loadbalancers gives services of type LoadBalancer addresses from pools whose allowedUses have LoadBalancer. What a service
// has stands in its own status and nowhere else, so an address is free as soon as its service is gone.
package loadbalancers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers/looks"
)

// ConfigurationName is the name of the only KubeControllersConfiguration that counts.
const ConfigurationName = "default"

// Giver gives addresses. Services compete for them, and so are looked at together. It runs on the leader alone.
type Giver struct {
	Client client.Client
	Events events.EventRecorder

	// made are addresses that were written and have yet to come back through the watch, told the problems that services were told
	// of. There is one worker, so no lock.
	made map[types.UID][]netip.Addr
	told map[types.UID]string
}

// Setup registers the giver.
func Setup(mgr manager.Manager) error {
	g := &Giver{Client: mgr.GetClient(), Events: mgr.GetEventRecorder("manul-operator")}
	return looks.Setup(mgr, "loadbalancers", g,
		looks.At(mgr, 0, &v3.KubeControllersConfiguration{}), looks.At(mgr, 0, &v3.IPPool{}), looks.At(mgr, 0, &v3.IPReservation{}),
		looks.At(mgr, 0, &corev1.Service{}, looks.Of(balanced)))
}

func balanced(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// Reconcile gives all services the addresses that they should have.
func (g *Giver) Reconcile(ctx context.Context, _ looks.Look) (reconcile.Result, error) {
	config := &v3.KubeControllersConfiguration{}
	if err := g.Client.Get(ctx, client.ObjectKey{Name: ConfigurationName}, config); apierrors.IsNotFound(err) {
		config = nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading KubeControllersConfiguration %q: %w", ConfigurationName, err)
	}
	var pools v3.IPPoolList
	var reservations v3.IPReservationList
	var all corev1.ServiceList
	for _, list := range []client.ObjectList{&pools, &reservations, &all} {
		if err := g.Client.List(ctx, list); err != nil {
			return reconcile.Result{}, fmt.Errorf("listing %T: %w", list, err)
		}
	}
	var services []*corev1.Service
	there := map[types.UID]*corev1.Service{}
	for i := range all.Items {
		if s := &all.Items[i]; balanced(s) {
			services = append(services, s)
			there[s.UID] = s
		}
	}
	maps.DeleteFunc(g.made, func(uid types.UID, addresses []netip.Addr) bool {
		return there[uid] == nil || slices.Equal(ingress(there[uid]), addresses)
	})
	p := decide(assignIPs(config), services, pools.Items, reservations.Items, g.made)
	g.tell(there, p.problems)
	return reconcile.Result{}, g.write(ctx, p.changes)
}

// tell has an event on each service say what keeps it from its addresses, once.
func (g *Giver) tell(there map[types.UID]*corev1.Service, problems map[types.UID]string) {
	for uid, problem := range problems {
		if g.told[uid] != problem {
			g.Events.Eventf(there[uid], nil, corev1.EventTypeWarning, "NoAddress", "Assign", "%s", problem)
		}
	}
	g.told = problems
}

func (g *Giver) write(ctx context.Context, changes []change) error {
	var errs []error
	for _, c := range changes {
		list := []corev1.LoadBalancerIngress{}
		for _, addr := range c.addresses {
			list = append(list, corev1.LoadBalancerIngress{IP: addr.String()})
		}
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": c.service.UID}, // not another one of the same name
			"status":   map[string]any{"loadBalancer": map[string]any{"ingress": list}},
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("encoding the addresses of service %s/%s: %w", c.service.Namespace, c.service.Name, err))
			continue
		}
		into := &corev1.Service{}
		into.SetNamespace(c.service.Namespace)
		into.SetName(c.service.Name)
		err = g.Client.Status().Patch(ctx, into, client.RawPatch(types.MergePatchType, raw))
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // its deletion comes by the watch
		case err != nil:
			errs = append(errs, fmt.Errorf("giving addresses to service %s/%s: %w", c.service.Namespace, c.service.Name, err))
		default:
			if g.made == nil {
				g.made = map[types.UID][]netip.Addr{}
			}
			g.made[c.service.UID] = c.addresses
		}
	}
	return errors.Join(errs...)
}
