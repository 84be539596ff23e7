package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// teams are the namespaces over which policies are spread that have nothing to do with what is measured.
	teams = 50
	// concerned is how many policies at most select the server: as many as a node has to do with in a large cluster.
	concerned = 100
)

// load makes policies until there are n: the first hundred select the server and allow what others ask of it, and the rest are
// policies of other teams.
func (b *bench) load(ctx context.Context) error {
	for i := range teams {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team(i)}}
		if err := b.client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making a namespace: %w", err)
		}
	}
	for i := range b.n {
		if err := b.client.Create(ctx, loaded(i)); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating a policy: %w", err)
		}
	}
	return nil
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
