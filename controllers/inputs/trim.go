package inputs

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/internal/render"
)

// NewTrim makes a function that removes from an object, before it enters the cache, what no part of the operator reads, and has
// it share what it has in common with others. Of a pod it makes a [render.Pod]. It never fails; the signature is that of a cache transform.
func NewTrim() func(any) (any, error) {
	a := newAlike()
	return func(in any) (any, error) { return a.trim(in) }
}

func (a *alike) trim(in any) (any, error) {
	switch obj := in.(type) {
	case *corev1.Pod:
		return a.trimPod(obj), nil
	case *corev1.Node:
		return trimNode(obj), nil
	case *discoveryv1.EndpointSlice:
		return trimSlice(obj), nil
	case *corev1.Service:
		return trimService(obj), nil
	case *corev1.ServiceAccount:
		obj.Secrets, obj.ImagePullSecrets = nil, nil
	}
	if obj, err := meta.Accessor(in); err == nil {
		obj.SetManagedFields(nil)
		if _, ok := obj.GetAnnotations()[corev1.LastAppliedConfigAnnotation]; ok {
			rest := maps.Clone(obj.GetAnnotations())
			delete(rest, corev1.LastAppliedConfigAnnotation)
			obj.SetAnnotations(rest)
		}
	}
	return in, nil
}

// trimPod keeps who the pod is, where it runs, and its named ports.
func (a *alike) trimPod(in *corev1.Pod) *render.Pod {
	out := render.PodOf(in)
	out.Annotations = ownAnnotations(in.Annotations)
	out.Node, out.Account = text(out.Node), text(out.Account)
	out.Labels, out.Ports = a.labelsAs(out.Labels), a.portsAs(out.Ports)
	return out
}

// trimNode keeps who the node is and its addresses: not its images, conditions and resources.
func trimNode(in *corev1.Node) *corev1.Node {
	return &corev1.Node{
		TypeMeta:   in.TypeMeta,
		ObjectMeta: trimMeta(&in.ObjectMeta),
		Spec:       corev1.NodeSpec{PodCIDRs: in.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: in.Status.Addresses},
	}
}

// trimService keeps the addresses of the service, and who asks for them and advertises them.
func trimService(in *corev1.Service) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   in.TypeMeta,
		ObjectMeta: trimMeta(&in.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type: in.Spec.Type, ClusterIP: in.Spec.ClusterIP, ClusterIPs: in.Spec.ClusterIPs, ExternalIPs: in.Spec.ExternalIPs,
			IPFamilies: in.Spec.IPFamilies, IPFamilyPolicy: in.Spec.IPFamilyPolicy,
			ExternalTrafficPolicy: in.Spec.ExternalTrafficPolicy, LoadBalancerIP: in.Spec.LoadBalancerIP, LoadBalancerClass: in.Spec.LoadBalancerClass,
		},
		Status: corev1.ServiceStatus{LoadBalancer: in.Status.LoadBalancer},
	}
}

// trimSlice keeps to which service the endpoints belong, their nodes, addresses and ports, and whether they are ready.
func trimSlice(in *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{TypeMeta: in.TypeMeta, ObjectMeta: trimMeta(&in.ObjectMeta), AddressType: in.AddressType}
	out.Labels, out.Annotations = nil, nil
	if service := in.Labels[discoveryv1.LabelServiceName]; service != "" {
		out.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for i := range in.Endpoints {
		e := &in.Endpoints[i]
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: e.Addresses, NodeName: e.NodeName, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},
		})
	}
	for i := range in.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Protocol: in.Ports[i].Protocol, Port: in.Ports[i].Port})
	}
	return out
}

func trimMeta(in *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              in.Name,
		Namespace:         in.Namespace,
		UID:               in.UID,
		ResourceVersion:   in.ResourceVersion,
		Generation:        in.Generation,
		CreationTimestamp: in.CreationTimestamp,
		DeletionTimestamp: in.DeletionTimestamp,
		Labels:            in.Labels,
		Annotations:       ownAnnotations(in.Annotations),
	}
}

// ownAnnotations keeps the annotations of the API that the project serves.
func ownAnnotations(in map[string]string) map[string]string {
	var out map[string]string
	for key, value := range in {
		domain, _, _ := strings.Cut(key, "/")
		if domain != "projectcalico.org" && !strings.HasSuffix(domain, ".projectcalico.org") {
			continue
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[key] = value
	}
	return out
}
