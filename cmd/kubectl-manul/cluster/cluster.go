// Package cluster reads from the API server what the commands report on, and writes what they mend.
package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

// page is how many objects are listed at once.
const page = 500

// Cluster is a cluster to look at.
type Cluster struct {
	Client client.Client
}

// Connect connects to a cluster.
func Connect(config *rest.Config) (*Cluster, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, v3.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering the API's kinds: %w", err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return &Cluster{Client: c}, nil
}

// listAll lists a kind, page by page.
func listAll[L client.ObjectList, T any](ctx context.Context, c *Cluster, list L, items func(L) []T) ([]T, error) {
	var out []T
	for next := ""; ; {
		if err := c.Client.List(ctx, list, client.Limit(page), client.Continue(next)); err != nil {
			if meta.IsNoMatchError(err) {
				return nil, fmt.Errorf("listing %T: the cluster does not serve the kind: is Manul installed? %w", list, err)
			}
			return nil, fmt.Errorf("listing %T: %w", list, err)
		}
		out = append(out, items(list)...)
		if next = list.GetContinue(); next == "" {
			return out, nil
		}
	}
}

// NodeStates are what all nodes have to do and report.
func (c *Cluster) NodeStates(ctx context.Context) ([]v1alpha1.NodeState, error) {
	return listAll(ctx, c, &v1alpha1.NodeStateList{}, func(l *v1alpha1.NodeStateList) []v1alpha1.NodeState { return l.Items })
}

// Nodes are Kubernetes' nodes.
func (c *Cluster) Nodes(ctx context.Context) ([]corev1.Node, error) {
	return listAll(ctx, c, &corev1.NodeList{}, func(l *corev1.NodeList) []corev1.Node { return l.Items })
}

// Addresses is everything about addresses.
func (c *Cluster) Addresses(ctx context.Context) (*usage.Cluster, error) {
	out := &usage.Cluster{}
	var errs [9]error
	// Holders first: what is let go of between the reads must not look as if it had never been given.
	out.NodeStates, errs[0] = c.NodeStates(ctx)
	out.Endpoints, errs[1] = listAll(ctx, c, &v1alpha1.NodeEndpointsList{}, func(l *v1alpha1.NodeEndpointsList) []v1alpha1.NodeEndpoints { return l.Items })
	out.Pods, errs[2] = listAll(ctx, c, &corev1.PodList{}, func(l *corev1.PodList) []corev1.Pod { return l.Items })
	out.Services, errs[3] = listAll(ctx, c, &corev1.ServiceList{}, func(l *corev1.ServiceList) []corev1.Service { return l.Items })
	out.Pools, errs[4] = listAll(ctx, c, &v3.IPPoolList{}, func(l *v3.IPPoolList) []v3.IPPool { return l.Items })
	out.Blocks, errs[5] = listAll(ctx, c, &v3.IPAMBlockList{}, func(l *v3.IPAMBlockList) []v3.IPAMBlock { return l.Items })
	out.Affinities, errs[6] = listAll(ctx, c, &v3.BlockAffinityList{}, func(l *v3.BlockAffinityList) []v3.BlockAffinity { return l.Items })
	out.Nodes, errs[7] = c.Nodes(ctx)
	settings := &v3.IPAMConfiguration{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: usage.SettingsName}, settings); client.IgnoreNotFound(err) != nil {
		errs[8] = fmt.Errorf("reading IPAMConfiguration %q: %w", usage.SettingsName, err)
	}
	out.Settings = settings.Spec
	return out, errors.Join(errs[:]...)
}

// Mend does a repair. It deletes an object only as it was looked at.
func (c *Cluster) Mend(ctx context.Context, r *usage.Repair) error {
	// The affinity goes first: while the block's object is there, nobody else gets the block.
	if o := r.DeleteAffinity; o != nil {
		if err := c.remove(ctx, o); err != nil {
			return err
		}
	}
	if o := r.DeleteBlock; o != nil {
		if err := c.remove(ctx, o); err != nil {
			return err
		}
	}
	if o := r.CreateAffinity; o != nil {
		if err := c.Client.Create(ctx, o.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating BlockAffinity %q: %w", o.Name, err)
		}
	}
	return nil
}

func (c *Cluster) remove(ctx context.Context, obj client.Object) error {
	is := client.Preconditions{UID: new(obj.GetUID()), ResourceVersion: new(obj.GetResourceVersion())}
	if err := c.Client.Delete(ctx, obj, is); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %T %q: %w", obj, obj.GetName(), err)
	}
	return nil
}

// NodeState is that of one node.
func (c *Cluster) NodeState(ctx context.Context, name string) (*v1alpha1.NodeState, error) {
	s := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := c.Client.Get(ctx, client.ObjectKeyFromObject(s), s); apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no node %q with an agent: see kubectl manul nodes", name)
	} else if err != nil {
		return nil, fmt.Errorf("reading NodeState %q: %w", name, err)
	}
	return s, nil
}
