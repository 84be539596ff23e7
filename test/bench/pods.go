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

// batch makes pods all at once, and prints how long it took from the first call to the API server until all were Running.
func (b *bench) batch(ctx context.Context) error {
	events, err := b.client.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace), client.MatchingLabels{"batch": "yes"})
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	defer events.Stop()
	start := time.Now()
	for i := range b.n {
		pod := b.pod(fmt.Sprintf("batch-%d", i))
		pod.Labels["batch"] = "yes"
		if err := b.client.Create(ctx, pod); err != nil {
			return fmt.Errorf("creating a pod: %w", err)
		}
	}
	running := map[string]bool{}
	if err := until(ctx, events, func(_ watch.Event, p *corev1.Pod) bool {
		if p.Status.Phase == corev1.PodRunning {
			running[p.Name] = true
		}
		return len(running) == b.n
	}); err != nil {
		return err
	}
	if err := b.out.Encode(length{Name: "batch", Took: time.Since(start).Nanoseconds()}); err != nil {
		return err
	}
	if err := b.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.MatchingLabels{"batch": "yes"}, client.GracePeriodSeconds(1)); err != nil {
		return fmt.Errorf("deleting pods: %w", err)
	}
	gone := map[string]bool{}
	return until(ctx, events, func(e watch.Event, p *corev1.Pod) bool {
		if e.Type == watch.Deleted {
			gone[p.Name] = true
		}
		return len(gone) == b.n
	})
}

// pod is a pod of the benchmark, bound to the node, so that the scheduler's time is not measured. Its label is one that the measured
// policies allow.
func (b *bench) pod(name string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"friend": "yes"}},
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
