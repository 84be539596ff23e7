package render

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/routing"
	"github.com/manul-net/manul/internal/selector"
)

// Annotations on a node: its AS number, and the cluster for which it is a route reflector.
const (
	annotationASNumber  = "projectcalico.org/ASNumber"
	annotationClusterID = "projectcalico.org/RouteReflectorClusterID"
)

// annotationAdvertiseFrom on a service is a selector of the nodes that advertise it.
const annotationAdvertiseFrom = "manul.projectcalico.org/advertiseFrom"

// setRouting takes in an object that only routes depend on; false when it is no such object.
func (c *Cluster) setRouting(obj runtime.Object) bool {
	switch o := obj.(type) {
	case *corev1.Service:
		c.routes.SetService(serviceOf(o))
	case *v3.BGPConfiguration:
		c.setBGPConfiguration(o.Name, &o.Spec)
	case *v3.BGPPeer:
		c.routes.SetPeer(o.Name, &o.Spec)
	case *v3.BGPFilter:
		c.routes.SetFilter(o.Name, &o.Spec)
	case *v3.CalicoNodeStatus:
		c.setInquiry(o.Name, &o.Spec)
	default:
		return false
	}
	return true
}

// deleteRouting takes note that such an object is gone.
func (c *Cluster) deleteRouting(obj runtime.Object) bool {
	switch o := obj.(type) {
	case *corev1.Service:
		c.routes.DeleteService(routing.ServiceName{Namespace: o.Namespace, Name: o.Name})
	case *v3.BGPConfiguration:
		c.setBGPConfiguration(o.Name, nil)
	case *v3.BGPPeer:
		c.routes.SetPeer(o.Name, nil)
	case *v3.BGPFilter:
		c.routes.SetFilter(o.Name, nil)
	case *v3.CalicoNodeStatus:
		c.setInquiry(o.Name, nil)
	default:
		return false
	}
	return true
}

// updateRoutes notes the nodes whose part in BGP changed.
func (c *Cluster) updateRoutes() {
	for _, name := range c.routes.Changed() {
		c.touch(KindNodeState, name)
		c.touch(KindNodeNetwork, name)
	}
}

// setBGPConfiguration takes in a BGPConfiguration; nil when it is gone. Who writes the routes to pools may change with it.
func (c *Cluster) setBGPConfiguration(name string, spec *v3.BGPConfigurationSpec) {
	before := c.renderPools()
	c.routes.SetConfiguration(name, spec)
	if !Same(before, c.renderPools()) {
		c.touchNodeStates()
	}
}

// podsOn calls yield for the pods on a node.
func (c *Cluster) podsOn(name string, yield func(id string, labels selector.Labels) bool) {
	n := c.nodes[name]
	if n == nil {
		return
	}
	for id, e := range n.endpoints {
		if !yield(id, selector.Map(e.view().Map())) {
			return
		}
	}
}

// serviceOf is a service as far as routes go. A headless one has no addresses to advertise.
func serviceOf(o *corev1.Service) routing.Service {
	out := routing.Service{
		Name:  routing.ServiceName{Namespace: o.Namespace, Name: o.Name},
		Local: o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		From:  o.Annotations[annotationAdvertiseFrom],
	}
	if o.Spec.ClusterIP == corev1.ClusterIPNone || o.Spec.Type == corev1.ServiceTypeExternalName {
		return out
	}
	clusterIPs := o.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{o.Spec.ClusterIP}
	}
	out.ClusterIPs = parseAddresses(clusterIPs)
	out.ExternalIPs = parseAddresses(o.Spec.ExternalIPs)
	if o.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for i := range o.Status.LoadBalancer.Ingress {
			out.LoadBalancerIPs = append(out.LoadBalancerIPs, parseAddresses([]string{o.Status.LoadBalancer.Ingress[i].IP})...)
		}
	}
	return out
}

// parseAddresses are those of a list that can be read.
func parseAddresses(list []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range list {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// Routes is what BGP does on each node, for who wants to explain it. It must not be changed.
func (c *Cluster) Routes() *routing.Plan {
	c.flush()
	return c.routes
}
