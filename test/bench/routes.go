package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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
