package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
)

// policies denies and allows the client in turn, by a policy that comes and goes.
func (b *bench) policies(ctx context.Context) error {
	watching, err := b.watchPolicies(ctx)
	if err != nil {
		return err
	}
	defer watching.stop()
	for i := range b.n {
		order := 1.0
		deny := &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("deny-%d", i)}}
		deny.Spec.Order = &order
		deny.Spec.Selector = `role == "server"`
		deny.Spec.Types = []v3.PolicyType{v3.PolicyTypeIngress}
		deny.Spec.Ingress = []v3.Rule{{Action: v3.Deny, Source: v3.EntityRule{Selector: `role == "client"`}}}
		if err := b.client.Create(ctx, deny); err != nil {
			return fmt.Errorf("creating a policy: %w", err)
		}
		if err := b.seen(ctx, "deny", watching, watch.Added, deny.Name); err != nil {
			return err
		}
		if err := b.client.Delete(ctx, deny); err != nil {
			return fmt.Errorf("deleting a policy: %w", err)
		}
		if err := b.seen(ctx, "allow", watching, watch.Deleted, deny.Name); err != nil {
			return err
		}
	}
	return nil
}

// seen prints that the API server answered just now, lets the change take effect, and prints how long the news took to another client.
func (b *bench) seen(ctx context.Context, name string, watching *watched, what watch.EventType, policy string) error {
	answered := time.Now()
	if err := b.out.Encode(moment{Name: name, At: answered.UnixNano()}); err != nil {
		return err
	}
	pause(ctx)
	took, err := watching.since(answered, what, policy)
	if err != nil {
		return err
	}
	return b.out.Encode(length{Name: "watched", Took: took.Nanoseconds()})
}

// labels gives the client a label that a policy allows, and takes it away, in turn.
func (b *bench) labels(ctx context.Context) error {
	pod := &corev1.Pod{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "client"}, pod); err != nil {
		return fmt.Errorf("reading the client's pod: %w", err)
	}
	for range b.n {
		for _, step := range []struct{ name, value string }{{"allow", `"yes"`}, {"deny", "null"}} {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"friend":`+step.value+`}}}`))
			if err := b.client.Patch(ctx, pod, patch); err != nil {
				return fmt.Errorf("labelling the client's pod: %w", err)
			}
			if err := b.answered(step.name); err != nil {
				return err
			}
			pause(ctx)
		}
	}
	return nil
}
