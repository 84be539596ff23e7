package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/routing"
)

// Plan is what the operator's compiler makes of the cluster's nodes, services and BGP objects.
func (c *Cluster) Plan(ctx context.Context) (*routing.Plan, error) {
	world := render.New()
	for _, list := range []client.ObjectList{
		&corev1.NodeList{}, &corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}, &v3.BGPConfigurationList{}, &v3.BGPPeerList{}, &v3.BGPFilterList{},
	} {
		for next := ""; ; {
			if err := c.Client.List(ctx, list, client.Limit(page), client.Continue(next)); err != nil {
				return nil, fmt.Errorf("listing %T: %w", list, err)
			}
			if err := take(world, list); err != nil {
				return nil, err
			}
			if next = list.GetContinue(); next == "" {
				break
			}
		}
	}
	return world.Routes(), nil
}

// take has the compiler take in every object of a list.
func take(world *render.Cluster, list client.ObjectList) error {
	var objects []runtime.Object
	switch l := list.(type) {
	case *corev1.NodeList:
		objects = pointers(l.Items, func(o *corev1.Node) runtime.Object { return o })
	case *corev1.ServiceList:
		objects = pointers(l.Items, func(o *corev1.Service) runtime.Object { return o })
	case *discoveryv1.EndpointSliceList:
		objects = pointers(l.Items, func(o *discoveryv1.EndpointSlice) runtime.Object { return o })
	case *v3.BGPConfigurationList:
		objects = pointers(l.Items, func(o *v3.BGPConfiguration) runtime.Object { return o })
	case *v3.BGPPeerList:
		objects = pointers(l.Items, func(o *v3.BGPPeer) runtime.Object { return o })
	case *v3.BGPFilterList:
		objects = pointers(l.Items, func(o *v3.BGPFilter) runtime.Object { return o })
	}
	for _, o := range objects {
		if err := world.Set(o); err != nil {
			return fmt.Errorf("reading the cluster: %w", err)
		}
	}
	return nil
}

func pointers[T any](items []T, as func(*T) runtime.Object) []runtime.Object {
	out := make([]runtime.Object, 0, len(items))
	for i := range items {
		out = append(out, as(&items[i]))
	}
	return out
}
