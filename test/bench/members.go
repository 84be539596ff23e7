package main

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// perSet is how many networks a set has, company how many pods the server's node has besides.
	perSet  = 5_000
	company = 30
)

// members makes network sets with b.n addresses in all, no two of which lie side by side, a policy of the server that names them, and
// pods on its node.
func (b *bench) members(ctx context.Context) error {
	address := netip.MustParseAddr("172.16.0.1")
	for made, i := 0, 0; made < b.n; i++ {
		set := &v3.GlobalNetworkSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("members-%d", i), Labels: map[string]string{"members": "yes"}}}
		for ; made < b.n && len(set.Spec.Nets) < perSet; made++ {
			set.Spec.Nets = append(set.Spec.Nets, address.String())
			address = address.Next().Next()
		}
		if err := b.client.Create(ctx, set); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making a network set: %w", err)
		}
	}
	order := 50.0
	p := &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "members"}}
	p.Spec = v3.NetworkPolicySpec{
		Order: &order, Selector: `role == "server"`, Types: []v3.PolicyType{v3.PolicyTypeIngress},
		Ingress: []v3.Rule{{Action: v3.Allow, Source: v3.EntityRule{NamespaceSelector: "global()", Selector: `members == "yes"`}}, {Action: v3.Allow}},
	}
	if err := b.client.Create(ctx, p); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating a policy: %w", err)
	}
	events, err := b.client.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace), client.MatchingLabels{"company": "yes"})
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	defer events.Stop()
	for i := range company {
		pod := b.pod(fmt.Sprintf("company-%d", i))
		pod.Labels["company"] = "yes"
		if err := b.client.Create(ctx, pod); err != nil {
			return fmt.Errorf("creating a pod: %w", err)
		}
	}
	running := map[string]bool{}
	return until(ctx, events, func(_ watch.Event, p *corev1.Pod) bool {
		if p.Status.Phase == corev1.PodRunning {
			running[p.Name] = true
		}
		return len(running) == company
	})
}
