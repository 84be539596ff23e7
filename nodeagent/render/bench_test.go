package render

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Sizes of the largest cluster that the project aims at.
const (
	benchNodes    = 5000
	benchPods     = 30 // of a node
	benchPolicies = 10_000
	benchLocal    = 100
)

func benchEndpoints(node, shift int) *v1alpha1.NodeEndpointsSpec {
	spec := &v1alpha1.NodeEndpointsSpec{}
	for j := range benchPods {
		spec.Endpoints = append(spec.Endpoints, v1alpha1.RemoteEndpoint{
			ID:         fmt.Sprintf("shop/p%d-%d", node, j),
			Identities: []string{fmt.Sprintf("%016x", (node*benchPods+j+shift)%benchPolicies)},
			Addresses:  []string{netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), byte(j)}).String()},
		})
	}
	return spec
}

// benchState is a node with a hundred pods, each under ten policies, in a cluster of 150,000 pods.
func benchState() *State {
	s := New(self)
	for i := range benchPolicies {
		set := fmt.Sprintf("%016x", i)
		s.SetCatalog("sets-"+set, &v1alpha1.SetCatalogSpec{Sets: []v1alpha1.Set{{ID: set, Identities: []string{fmt.Sprintf("%016x", i)}}}})
		s.SetProgram(fmt.Sprintf("np.%d", i), 1, allowing(set))
	}
	state := &v1alpha1.NodeStateSpec{}
	for i := range benchLocal {
		e := v1alpha1.Endpoint{ID: fmt.Sprintf("shop/local%d", i), Identity: "x"}
		var names []string
		for j := range 10 {
			names = append(names, fmt.Sprintf("np.%d", i*10+j))
		}
		e.Ingress = []v1alpha1.TierPolicies{{Tier: "default", DefaultAction: v1alpha1.Deny, Policies: names}}
		state.Endpoints = append(state.Endpoints, e)
	}
	s.SetNodeState(state)
	for i := range benchNodes {
		s.SetEndpoints(fmt.Sprintf("node%d", i), benchEndpoints(i, 0))
	}
	s.Policy().Clean()
	return s
}

// BenchmarkEndpointElsewhere is one pod's change of identity on one of 5,000 nodes.
func BenchmarkEndpointElsewhere(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := benchState()
	runtime.GC()
	runtime.ReadMemStats(&after)
	one, other := benchEndpoints(7, 0), benchEndpoints(7, 0)
	other.Endpoints[3].Identities = []string{"another"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			s.SetEndpoints("node7", other)
		} else {
			s.SetEndpoints("node7", one)
		}
		s.Policy().Clean()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-state")
	runtime.KeepAlive(s)
}
