package leases

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// BenchmarkDecide is a look at a cluster of 5,000 nodes with a block and 30 pods each, in which there is nothing to do but for one node that is
// new.
func BenchmarkDecide(b *testing.B) {
	const count, pods = 5_000, 30
	s := &state{
		pools: []v3.IPPool{pool("a", "10.48.0.0/13", nil)}, settings: standardSettings(), demand: map[string]int{}, now: time.Unix(1_700_000_000, 0),
	}
	for i := range count {
		s.nodes = append(s.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i)}})
	}
	leases := decide(s).lease
	for _, l := range leases {
		given(s, l)
		state := v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: l.Node}}
		for j := range pods {
			id := fmt.Sprintf("a/p%d", j)
			state.Spec.Endpoints = append(state.Spec.Endpoints, v1alpha1.Endpoint{ID: id, UID: types.UID(id)})
			state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{ID: id, UID: types.UID(id), Addresses: []string{ipam.AddrAt(l.Block, uint64(j)).String()}})
		}
		s.nodeStates = append(s.nodeStates, state)
		s.demand[l.Node] = pods
	}
	s.nodes = append(s.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one-more"}})
	for b.Loop() {
		if d := decide(s); len(d.lease) != 1 || len(d.change)+len(d.release)+len(d.confirm)+len(d.forget) > 0 {
			b.Fatalf("%d leases, %d changes", len(d.lease), len(d.change))
		}
	}
}
