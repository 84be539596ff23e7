package webhooks

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// Cluster is what the checks ask about other objects than the one that is written.
type Cluster interface {
	// Tier returns a tier; nil when there is none of that name.
	Tier(ctx context.Context, name string) (*v3.Tier, error)
	// PoliciesIn returns "Kind name" of policies of a tier: all, or as many as are enough to tell.
	PoliciesIn(ctx context.Context, tier string) ([]string, error)
	// Pools returns all address pools.
	Pools(ctx context.Context) ([]v3.IPPool, error)
	// Services returns all services.
	Services(ctx context.Context) ([]corev1.Service, error)
	// Nodes returns the nodes of the cluster, with their addresses.
	Nodes(ctx context.Context) ([]corev1.Node, error)
	// NodeStates returns what all nodes report.
	NodeStates(ctx context.Context) ([]v1alpha1.NodeState, error)
	// Selects tells whether a policy selects a pod or a host endpoint now. Of pods outside namespace none is looked at; empty for all.
	Selects(ctx context.Context, p *policy.Compiled, namespace string) (bool, error)
}

const (
	// page is how many objects are listed at once, named how many policies of a tier are enough.
	page, named = 500, 5
	// maxPods is how many pods are looked at for one that a policy selects. Beyond that nobody is warned.
	maxPods = 20_000
	// fieldNode is the field by which the API server finds pods of a node.
	fieldNode = "spec.nodeName"
)

// Reader is the Cluster as the API server tells it.
type Reader struct {
	// Cached reads what the operator watches anyway: it may be some milliseconds old.
	Cached client.Reader
	// Live asks the API server.
	Live client.Reader
	// Pods tells how selectors see the pods of a namespace that have a network of their own; of all namespaces with an empty one; and of
	// so many at most.
	Pods func(namespace string, most int) []policy.EndpointLabels
}

// Tier looks for a tier. One that was made just before the policy that names it may not be in the cache yet.
func (r *Reader) Tier(ctx context.Context, name string) (*v3.Tier, error) {
	tier := &v3.Tier{}
	err := r.Cached.Get(ctx, types.NamespacedName{Name: name}, tier)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, types.NamespacedName{Name: name}, tier)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for tier %q: %w", name, err)
	}
	return tier, nil
}

// PoliciesIn asks the API server, since a tier that is gone can't be called back.
func (r *Reader) PoliciesIn(ctx context.Context, tier string) ([]string, error) {
	var found []string
	for _, list := range []client.ObjectList{
		&v3.GlobalNetworkPolicyList{}, &v3.NetworkPolicyList{}, &v3.StagedGlobalNetworkPolicyList{}, &v3.StagedNetworkPolicyList{},
	} {
		for next := ""; len(found) < named; {
			if err := r.Live.List(ctx, list, client.Limit(page), client.Continue(next)); err != nil {
				return nil, fmt.Errorf("looking for the policies of tier %q: %w", tier, err)
			}
			found = append(found, inTier(list, tier)...)
			if next = list.GetContinue(); next == "" {
				break
			}
		}
	}
	return found, nil
}

func inTier(list client.ObjectList, tier string) []string {
	var found []string
	add := func(kind, namespace, name, its string) {
		if its == tier {
			found = append(found, kind+" "+strings.TrimPrefix(namespace+"/"+name, "/"))
		}
	}
	switch list := list.(type) {
	case *v3.GlobalNetworkPolicyList:
		for i := range list.Items {
			add("GlobalNetworkPolicy", "", list.Items[i].Name, list.Items[i].Spec.Tier)
		}
	case *v3.NetworkPolicyList:
		for i := range list.Items {
			add("NetworkPolicy", list.Items[i].Namespace, list.Items[i].Name, list.Items[i].Spec.Tier)
		}
	case *v3.StagedGlobalNetworkPolicyList:
		for i := range list.Items {
			add("StagedGlobalNetworkPolicy", "", list.Items[i].Name, list.Items[i].Spec.Tier)
		}
	case *v3.StagedNetworkPolicyList:
		for i := range list.Items {
			add("StagedNetworkPolicy", list.Items[i].Namespace, list.Items[i].Name, list.Items[i].Spec.Tier)
		}
	}
	return found
}

// Pools asks the API server: of two pools that are made one after the other the second is checked against the first.
func (r *Reader) Pools(ctx context.Context) ([]v3.IPPool, error) {
	list := &v3.IPPoolList{}
	if err := r.Live.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing address pools: %w", err)
	}
	return list.Items, nil
}

// Services returns the services of a moment ago.
func (r *Reader) Services(ctx context.Context) ([]corev1.Service, error) {
	list := &corev1.ServiceList{}
	if err := r.Cached.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing services: %w", err)
	}
	return list.Items, nil
}

// Nodes returns the nodes of a moment ago.
func (r *Reader) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list := &corev1.NodeList{}
	if err := r.Cached.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	return list.Items, nil
}

// NodeStates returns what nodes reported until a moment ago.
func (r *Reader) NodeStates(ctx context.Context) ([]v1alpha1.NodeState, error) {
	list := &v1alpha1.NodeStateList{}
	if err := r.Cached.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing what nodes report: %w", err)
	}
	return list.Items, nil
}

// Selects looks at pods until it finds one. Past maxPods it supposes that there is one.
func (r *Reader) Selects(ctx context.Context, p *policy.Compiled, namespace string) (bool, error) {
	pods := r.Pods(namespace, maxPods)
	for i := range pods {
		if p.Selector.Match(selectable(pods[i].Map())) {
			return true, nil
		}
	}
	if len(pods) >= maxPods {
		return true, nil
	}
	if found, err := r.selectsUnbound(ctx, p, namespace); found || err != nil {
		return found, err
	}
	return r.selectsHost(ctx, p)
}

// selectsUnbound looks at pods that have no node yet: the operator keeps nothing of these, and there are few.
func (r *Reader) selectsUnbound(ctx context.Context, p *policy.Compiled, namespace string) (bool, error) {
	pods := &corev1.PodList{}
	if err := r.Live.List(ctx, pods, client.InNamespace(namespace), client.MatchingFields{fieldNode: ""}, client.Limit(page)); err != nil {
		return false, fmt.Errorf("looking for pods that the policy selects: %w", err)
	}
	labels := labelReader{ctx: ctx, from: r.Cached, known: map[types.NamespacedName]map[string]string{}}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		account := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}
		endpoint := policy.EndpointLabels{
			Own: pod.Labels, Pod: true, Namespace: pod.Namespace, ServiceAccount: account.Name,
			NamespaceLabels:      labels.of(types.NamespacedName{Name: pod.Namespace}, &corev1.Namespace{}),
			ServiceAccountLabels: labels.of(account, &corev1.ServiceAccount{}),
		}
		if p.Selector.Match(selectable(endpoint.Map())) {
			return true, nil
		}
	}
	return pods.Continue != "", labels.err
}

// selectsHost looks for a host endpoint. Only global policies are for those.
func (r *Reader) selectsHost(ctx context.Context, p *policy.Compiled) (bool, error) {
	if p.Ref.Kind != policy.KindGlobalNetworkPolicy && p.Ref.Kind != policy.KindStagedGlobalNetworkPolicy {
		return false, nil
	}
	hosts := &v3.HostEndpointList{}
	if err := r.Cached.List(ctx, hosts); err != nil {
		return false, fmt.Errorf("looking for host endpoints that the policy selects: %w", err)
	}
	for i := range hosts.Items {
		endpoint := policy.EndpointLabels{Own: hosts.Items[i].Labels}
		if p.Selector.Match(selectable(endpoint.Map())) {
			return true, nil
		}
	}
	return false, nil
}

// selectable is a set of labels as selectors see it.
type selectable map[string]string

// Get returns the value of a label and whether it is there.
func (s selectable) Get(key string) (string, bool) {
	value, ok := s[key]
	return value, ok
}

// labelReader reads the labels of namespaces (names without a namespace) and service accounts, each once.
type labelReader struct {
	ctx   context.Context
	from  client.Reader
	known map[types.NamespacedName]map[string]string
	err   error
}

func (l *labelReader) of(name types.NamespacedName, obj client.Object) map[string]string {
	if labels, ok := l.known[name]; ok || name.Name == "" {
		return labels
	}
	err := l.from.Get(l.ctx, name, obj)
	if err != nil && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
		l.err = fmt.Errorf("reading the labels of %s: %w", name, err)
	}
	l.known[name] = obj.GetLabels()
	return obj.GetLabels()
}
