package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cmd/kubectl-manul/policing"
)

// Rendered is what all nodes go by.
func (c *Cluster) Rendered(ctx context.Context) (*policing.Rendered, error) {
	out := &policing.Rendered{}
	var errs [5]error
	out.States, errs[0] = c.NodeStates(ctx)
	out.Endpoints, errs[1] = listAll(ctx, c, &v1alpha1.NodeEndpointsList{}, func(l *v1alpha1.NodeEndpointsList) []v1alpha1.NodeEndpoints { return l.Items })
	out.Networks, errs[2] = listAll(ctx, c, &v1alpha1.NodeNetworkList{}, func(l *v1alpha1.NodeNetworkList) []v1alpha1.NodeNetwork { return l.Items })
	out.Programs, errs[3] = listAll(ctx, c, &v1alpha1.PolicyProgramList{}, func(l *v1alpha1.PolicyProgramList) []v1alpha1.PolicyProgram { return l.Items })
	out.Catalogs, errs[4] = listAll(ctx, c, &v1alpha1.SetCatalogList{}, func(l *v1alpha1.SetCatalogList) []v1alpha1.SetCatalog { return l.Items })
	return out, errors.Join(errs[:]...)
}

// Pod reads a pod.
func (c *Cluster) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod); apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no pod %s/%s: see kubectl get pods -n %s", namespace, name, namespace)
	} else if err != nil {
		return nil, fmt.Errorf("reading pod %s/%s: %w", namespace, name, err)
	}
	return pod, nil
}

// ServiceWith finds the service with an address, and its ready pods ("namespace/name"); "" when no service has it.
func (c *Cluster) ServiceWith(ctx context.Context, addr netip.Addr) (service string, pods []string, err error) {
	services, err := listAll(ctx, c, &corev1.ServiceList{}, func(l *corev1.ServiceList) []corev1.Service { return l.Items })
	if err != nil {
		return "", nil, err
	}
	for i := range services {
		s := &services[i]
		addresses := slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs)
		for _, in := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, in.IP)
		}
		if !slices.Contains(addresses, addr.String()) {
			continue
		}
		slicesOf := &discoveryv1.EndpointSliceList{}
		if err := c.Client.List(ctx, slicesOf, client.InNamespace(s.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: s.Name}); err != nil {
			return "", nil, fmt.Errorf("listing the endpoints of service %s/%s: %w", s.Namespace, s.Name, err)
		}
		return s.Namespace + "/" + s.Name, readyPods(slicesOf.Items), nil
	}
	return "", nil, nil
}

func readyPods(list []discoveryv1.EndpointSlice) []string {
	var pods []string
	for i := range list {
		for _, e := range list[i].Endpoints {
			if e.TargetRef != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				pods = append(pods, e.TargetRef.Namespace+"/"+e.TargetRef.Name)
			}
		}
	}
	slices.Sort(pods)
	return slices.Compact(pods)
}
