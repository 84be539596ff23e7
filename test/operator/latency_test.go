package operator

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestPolicyIsWrittenAtOnce measures from the API server's answer to a new policy until its program and the states of
// the nodes that it concerns come back on a watch. It prints what it finds, and fails only when something waits that should not.
func TestPolicyIsWrittenAtOnce(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(namespace("latency"), node("node1", "10.0.0.11"), node("node2", "10.0.0.12"))
	k.create(pod("latency", "a", "node1", map[string]string{"app": "customer"}), pod("latency", "b", "node2", nil))
	k.operator(withPool())
	k.addressed("node1", "latency/a")
	k.addressed("node2", "latency/b")

	const rounds = 30
	programs := k.arrivals(&v1alpha1.PolicyProgramList{}, func(obj client.Object) string { return obj.GetName() })
	states := k.arrivals(&v1alpha1.NodeStateList{}, func(obj client.Object) string {
		state, ok := obj.(*v1alpha1.NodeState)
		if !ok || len(state.Spec.Endpoints) == 0 || len(state.Spec.Endpoints[0].Ingress) == 0 {
			return ""
		}
		names := state.Spec.Endpoints[0].Ingress[0].Policies
		return state.Name + " " + slices.Max(names)
	})
	var program, state []time.Duration
	for i := range rounds {
		gnp := globalPolicy(fmt.Sprintf("p%03d", i), "projectcalico.org/namespace == 'latency'")
		k.create(gnp)
		answered := time.Now()
		program = append(program, programs.wait("gnp."+gnp.Name).Sub(answered))
		last := states.wait("node1 gnp." + gnp.Name)
		if other := states.wait("node2 gnp." + gnp.Name); other.After(last) {
			last = other
		}
		state = append(state, last.Sub(answered))
	}
	for what, took := range map[string][]time.Duration{"program": program, "both nodes' state": state} {
		slices.Sort(took)
		p50, p90 := took[len(took)/2], took[len(took)*9/10]
		t.Logf("new policy -> %s on a watch: p50 %s, p90 %s, max %s", what, p50, p90, took[len(took)-1])
		if p50 > time.Second {
			t.Errorf("a new policy waits %s for its %s", p50, what)
		}
	}
}

// arrivals notes when what name makes of objects was first seen on a watch.
type arrivals struct {
	k    *cluster
	seen map[string]time.Time
	news chan arrival
}

type arrival struct {
	name string
	at   time.Time
}

func (k *cluster) arrivals(list client.ObjectList, name func(client.Object) string) *arrivals {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	w, err := k.client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{}})
	k.must(err, "watching")
	a := &arrivals{k: k, seen: map[string]time.Time{}, news: make(chan arrival, 10_000)}
	go func() {
		for e := range w.ResultChan() {
			if obj, ok := e.Object.(client.Object); ok {
				if n := name(obj); n != "" {
					a.news <- arrival{n, time.Now()}
				}
			}
		}
	}()
	k.t.Cleanup(func() { w.Stop(); cancel() })
	return a
}

func (a *arrivals) wait(name string) time.Time {
	a.k.t.Helper()
	deadline := time.After(patience)
	for a.seen[name].IsZero() {
		select {
		case n := <-a.news:
			if a.seen[n.name].IsZero() {
				a.seen[n.name] = n.at
			}
		case <-deadline:
			a.k.t.Fatalf("%s was not seen within %s", name, patience)
		}
	}
	return a.seen[name]
}
