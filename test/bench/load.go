package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// teams are the namespaces over which policies are spread that have nothing to do with what is measured.
	teams = 50
	// concerned is how many policies at most select the server: as many as a node has to do with in a large cluster.
	concerned = 100
	// writers is how many requests are under way at a time.
	writers = 32
)

// load makes policies until there are n: the first hundred select the server and allow what others ask of it, and the rest are
// policies of other teams. It ends when all of them are in force.
func (b *bench) load(ctx context.Context) error {
	// Before the policies, so that the watch has the whole of each one's way, and nothing has to be listed again and again.
	var listed v3.NetworkPolicyList
	if err := b.client.List(ctx, &listed); err != nil {
		return fmt.Errorf("listing policies: %w", err)
	}
	lacking := map[client.ObjectKey]*v3.NetworkPolicy{}
	for i := range b.n {
		p := loaded(i)
		lacking[client.ObjectKeyFromObject(p)] = p
	}
	pending := make(map[client.ObjectKey]bool, len(lacking)) // not in force
	for key := range lacking {
		pending[key] = true
	}
	note := func(p *v3.NetworkPolicy) {
		if apimeta.IsStatusConditionTrue(p.Status.Conditions, v3.ConditionEnforced) {
			delete(pending, client.ObjectKeyFromObject(p))
		}
	}
	for i := range listed.Items {
		note(&listed.Items[i])
		delete(lacking, client.ObjectKeyFromObject(&listed.Items[i]))
	}
	events, err := b.client.Watch(ctx, &v3.NetworkPolicyList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: listed.ResourceVersion}})
	if err != nil {
		return fmt.Errorf("watching policies: %w", err)
	}
	defer events.Stop()
	made := make(chan error, 1)
	go func() { made <- b.create(ctx, lacking) }()
	for done := false; !done || len(pending) > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-made:
			if err != nil {
				return err
			}
			done, made = true, nil
		case e, open := <-events.ResultChan():
			if !open || e.Type == watch.Error {
				return fmt.Errorf("watching policies, %d of which are not in force: the watch ended", len(pending))
			}
			if p, ok := e.Object.(*v3.NetworkPolicy); ok {
				note(p)
			}
		}
	}
	return nil
}

// create makes the namespaces of all teams, and policies.
func (b *bench) create(ctx context.Context, policies map[client.ObjectKey]*v3.NetworkPolicy) error {
	for i := range teams {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team(i)}}
		if err := b.client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making a namespace: %w", err)
		}
	}
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(writers)
	for _, p := range policies {
		making.Go(func() error {
			if err := b.client.Create(ctx, p); err != nil {
				return fmt.Errorf("creating a policy: %w", err)
			}
			return nil
		})
	}
	return making.Wait()
}

func team(i int) string { return fmt.Sprintf("team-%d", i) }

func loaded(i int) *v3.NetworkPolicy {
	order := 100.0
	tcp := intstr.FromString("TCP")
	p := &v3.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: team(i % teams), Name: fmt.Sprintf("load-%d", i)}}
	p.Spec.Selector = fmt.Sprintf(`app == "app-%d"`, i/teams)
	if i < concerned {
		p.Namespace, p.Spec.Selector = namespace, `role == "server"`
	}
	p.Spec.Order = &order
	p.Spec.Types = []v3.PolicyType{v3.PolicyTypeIngress}
	p.Spec.Ingress = []v3.Rule{
		{Action: v3.Allow, Protocol: &tcp, Source: v3.EntityRule{Selector: `role == "client"`}, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt(8080)}}},
		{Action: v3.Allow, Protocol: &tcp, Source: v3.EntityRule{Selector: fmt.Sprintf(`app == "app-%d"`, (i/teams+1)%20)}, Destination: v3.EntityRule{Ports: []intstr.IntOrString{intstr.FromInt(9090)}}},
	}
	return p
}
