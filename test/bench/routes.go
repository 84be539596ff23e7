package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// routes gives a service an external IP, and takes it away, in turn.
func (b *bench) routes(ctx context.Context) error {
	service := &corev1.Service{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "routed"}, service); err != nil {
		return fmt.Errorf("reading the service: %w", err)
	}
	for range b.n {
		for _, step := range []struct{ name, value string }{{"there", `["10.50.0.30"]`}, {"gone", "null"}} {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"externalIPs":`+step.value+`}}`))
			if err := b.client.Patch(ctx, service, patch); err != nil {
				return fmt.Errorf("changing the service's external IPs: %w", err)
			}
			if err := b.answered(step.name); err != nil {
				return err
			}
			pause(ctx)
			pause(ctx) // routers take their time
		}
	}
	return nil
}

// endpoints has the one endpoint of a service with externalTrafficPolicy Local become ready, and unready, in turn.
func (b *bench) endpoints(ctx context.Context) error {
	slice := &discoveryv1.EndpointSlice{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "followed"}, slice); err != nil {
		return fmt.Errorf("reading the endpoints: %w", err)
	}
	for range b.n {
		for _, step := range []struct {
			name  string
			ready bool
		}{{"there", true}, {"gone", false}} {
			before := slice.DeepCopy()
			slice.Endpoints[0].Conditions.Ready = &step.ready
			if err := b.client.Patch(ctx, slice, client.MergeFrom(before)); err != nil {
				return fmt.Errorf("changing the endpoint: %w", err)
			}
			if err := b.answered(step.name); err != nil {
				return err
			}
			pause(ctx)
			pause(ctx) // routers take their time
		}
	}
	return nil
}
