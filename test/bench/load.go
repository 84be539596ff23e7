package main

import (
	"context"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	p := progress{client: b.client, lacking: map[client.ObjectKey]*v3.NetworkPolicy{}, pending: map[client.ObjectKey]bool{}}
	for i := range b.n {
		policy := loaded(i)
		key := client.ObjectKeyFromObject(policy)
		p.lacking[key], p.pending[key] = policy, true
	}
	if err := p.list(ctx); err != nil {
		return err
	}
	lacking := maps.Clone(p.lacking) // it shrinks
	making, ctx := errgroup.WithContext(ctx)
	making.Go(func() error { return b.create(ctx, lacking) })
	making.Go(func() error {
		for len(p.pending) > 0 {
			if err := p.watch(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return making.Wait()
}

// progress is which policies are yet to come into force.
type progress struct {
	client client.WithWatch
	// lacking are those that were not there when they were listed, pending those that are not in force.
	lacking map[client.ObjectKey]*v3.NetworkPolicy
	pending map[client.ObjectKey]bool
	// version up to which all is known; empty: it is to be listed.
	version string
}

func (p *progress) note(policy *v3.NetworkPolicy) {
	key := client.ObjectKeyFromObject(policy)
	delete(p.lacking, key)
	if apimeta.IsStatusConditionTrue(policy.Status.Conditions, v3.ConditionEnforced) {
		delete(p.pending, key)
	}
}

func (p *progress) list(ctx context.Context) error {
	var listed v3.NetworkPolicyList
	if err := p.client.List(ctx, &listed); err != nil {
		return fmt.Errorf("listing policies: %w", err)
	}
	for i := range listed.Items {
		p.note(&listed.Items[i])
	}
	p.version = listed.ResourceVersion
	return nil
}

// watch follows policies until all are in force or the watch ends: the API server ends those of a client that is slow for a moment.
func (p *progress) watch(ctx context.Context) error {
	if p.version == "" {
		if err := p.list(ctx); err != nil {
			return err
		}
	}
	events, err := p.client.Watch(ctx, &v3.NetworkPolicyList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: p.version}})
	if err != nil {
		return fmt.Errorf("watching policies: %w", err)
	}
	defer events.Stop()
	for len(p.pending) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-events.ResultChan():
			policy, ok := e.Object.(*v3.NetworkPolicy)
			switch {
			case !open:
				return nil
			case !ok: // an error: the version is too old
				p.version = ""
				return nil
			}
			p.note(policy)
			p.version = policy.ResourceVersion
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
