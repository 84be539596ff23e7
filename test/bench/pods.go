package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pods makes pods one after the other, and prints how long each took from the API server's answer to Running and to gone.
func (b *bench) pods(ctx context.Context) error {
	for i := range b.n {
		pod := b.pod(fmt.Sprintf("pod-%d", i))
		events, err := b.client.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": pod.Name})
		if err != nil {
			return fmt.Errorf("watching pods: %w", err)
		}
		if err := b.client.Create(ctx, pod); err != nil {
			return fmt.Errorf("creating a pod: %w", err)
		}
		start := time.Now()
		if err := until(ctx, events, func(e watch.Event, p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }); err != nil {
			return err
		}
		if err := b.out.Encode(length{Name: "running", Took: time.Since(start).Nanoseconds()}); err != nil {
			return err
		}
		if err := b.client.Delete(ctx, pod, client.GracePeriodSeconds(1)); err != nil {
			return fmt.Errorf("deleting a pod: %w", err)
		}
		if err := until(ctx, events, func(e watch.Event, _ *corev1.Pod) bool { return e.Type == watch.Deleted }); err != nil {
			return err
		}
		events.Stop()
	}
	return nil
}

// pod is a pod of the benchmark, bound to the node, so that the scheduler's time is not measured.
func (b *bench) pod(name string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: b.node, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name: "prober", Image: "ghcr.io/manul-net/prober:v0.1.0", ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"serve", ":8080"},
			}},
		},
	}
}

func until(ctx context.Context, events watch.Interface, done func(watch.Event, *corev1.Pod) bool) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-events.ResultChan():
			if !open {
				return fmt.Errorf("watching pods: the watch ended")
			}
			if pod, ok := e.Object.(*corev1.Pod); ok && done(e, pod) {
				return nil
			}
		}
	}
}
