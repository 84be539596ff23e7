package render

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// objectName is the name of an object in its namespace.
type objectName struct{ namespace, name string }

// defaultIPAM is the name of the only IPAMConfiguration that counts.
const defaultIPAM = "default"

// Prepared is an object with what follows from it alone.
type Prepared struct {
	Object runtime.Object
	// policy is the object compiled, if it is a policy.
	policy *policy.Compiled
}

// Prepare works out what follows from an object alone. It knows no cluster, so that everybody who brings objects may do it at the same
// time as others.
func Prepare(obj runtime.Object) Prepared { return Prepared{Object: obj, policy: policy.Compile(obj)} }

// SetPrepared is Set for an object that has been prepared.
func (c *Cluster) SetPrepared(p Prepared) error {
	if p.policy != nil {
		c.setPolicy(p.policy)
		return nil
	}
	return c.Set(p.Object)
}

// Set takes in an object as it is now. The object is kept and must not be changed afterwards.
//
// Of the users' objects it takes Pod (or what [PodOf] makes of it), Namespace, ServiceAccount, Node, Service, EndpointSlice, NetworkPolicy and the cluster-wide kinds of policies of Kubernetes and, of
// projectcalico.org, NetworkPolicy, GlobalNetworkPolicy, the three staged kinds, Tier, IPPool, IPReservation, IPAMConfiguration, NetworkSet,
// GlobalNetworkSet, HostEndpoint, IPAMBlock, FelixConfiguration, BGPConfiguration, BGPPeer,
// BGPFilter and CalicoNodeStatus; also the rendered objects as they are in the API. Any other type is an error.
func (c *Cluster) Set(obj runtime.Object) error {
	switch o := obj.(type) {
	case *Pod:
		c.setPod(o)
	case *corev1.Pod:
		c.setPod(PodOf(o))
	case *corev1.Namespace:
		c.setNamespace(o.Name, &namespaceContent{labels: o.Labels, annotations: o.Annotations})
	case *corev1.ServiceAccount:
		c.setAccount(objectName{o.Namespace, o.Name}, true, o.Labels)
	case *corev1.Node:
		c.setNode(o)
	case *discoveryv1.EndpointSlice:
		c.setSlice(o)
	case *v3.Tier:
		c.setTier(o)
	case *v3.IPPool:
		c.setPool(o)
	case *v3.IPReservation:
		c.setReservation(o.Name, o.Spec.ReservedCIDRs)
	case *v3.IPAMConfiguration:
		if o.Name == defaultIPAM {
			c.setCooldown(&o.Spec)
		}
	case *v3.NetworkSet:
		c.setNetworkSet(objectName{o.Namespace, o.Name}, o.Labels, o.Spec.Nets)
	case *v3.GlobalNetworkSet:
		c.setNetworkSet(objectName{"", o.Name}, o.Labels, o.Spec.Nets)
	case *v3.IPAMBlock:
		c.setBlock(o)
	case *v3.FelixConfiguration:
		c.setFelix(o.Name, &o.Spec)
	case *v3.HostEndpoint:
		c.setHost(o)
	case *v1alpha1.NodeState:
		c.observeNodeState(o)
	case *v1alpha1.NodeEndpoints:
		c.observeNodeEndpoints(o.Name, o)
	case *v1alpha1.NodeNetwork:
		c.observeNodeNetwork(o.Name, o)
	case *v1alpha1.PolicyProgram:
		c.observeProgram(o)
	case *v1alpha1.SetCatalog:
		c.observeCatalog(o.Name, o)
	default:
		return c.setOther(obj)
	}
	return nil
}

// setOther takes in what only routes depend on, and policies.
func (c *Cluster) setOther(obj runtime.Object) error {
	if c.setRouting(obj) {
		return nil
	}
	if p := policy.Compile(obj); p != nil {
		c.setPolicy(p)
		return nil
	}
	return fmt.Errorf("taking in an object of type %T: the compiler knows no such type", obj)
}

// Delete takes note that an object is gone. Only its type, namespace and name are looked at.
func (c *Cluster) Delete(obj runtime.Object) error {
	switch o := obj.(type) {
	case *Pod:
		c.deletePod(o.ID)
	case *corev1.Pod:
		c.deletePod(o.Namespace + "/" + o.Name)
	case *corev1.Namespace:
		c.setNamespace(o.Name, nil)
	case *corev1.ServiceAccount:
		c.setAccount(objectName{o.Namespace, o.Name}, false, nil)
	case *corev1.Node:
		c.deleteNode(o.Name)
	case *discoveryv1.EndpointSlice:
		c.deleteSlice(objectName{o.Namespace, o.Name})
	case *v3.Tier:
		c.deleteTier(o.Name)
	case *v3.IPPool:
		c.deletePool(o.Name)
	case *v3.IPReservation:
		c.setReservation(o.Name, nil)
	case *v3.IPAMConfiguration:
		if o.Name == defaultIPAM {
			c.setCooldown(nil)
		}
	case *v3.NetworkSet:
		c.deleteNetworkSet(objectName{o.Namespace, o.Name})
	case *v3.GlobalNetworkSet:
		c.deleteNetworkSet(objectName{"", o.Name})
	case *v3.IPAMBlock:
		c.deleteBlock(o.Name)
	case *v3.FelixConfiguration:
		c.setFelix(o.Name, nil)
	case *v3.HostEndpoint:
		c.deleteHost(o.Name)
	case *v1alpha1.NodeState:
		c.forgetNodeState(o.Name)
	case *v1alpha1.NodeEndpoints:
		c.observeNodeEndpoints(o.Name, nil)
	case *v1alpha1.NodeNetwork:
		c.observeNodeNetwork(o.Name, nil)
	case *v1alpha1.PolicyProgram:
		c.forgetProgram(o.Name)
	case *v1alpha1.SetCatalog:
		c.observeCatalog(o.Name, nil)
	default:
		return c.deleteOther(obj)
	}
	return nil
}

// deleteOther takes note that such an object is gone.
func (c *Cluster) deleteOther(obj runtime.Object) error {
	if c.deleteRouting(obj) {
		return nil
	}
	if ref, ok := policy.RefOf(obj); ok {
		c.deletePolicy(ref)
		return nil
	}
	return fmt.Errorf("taking note of a deleted object of type %T: the compiler knows no such type", obj)
}
