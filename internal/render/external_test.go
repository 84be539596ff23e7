package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Addresses that an IPAM plugin gave lie behind their node: all of the CIDR that Kubernetes allotted to it, or the single address. The node is
// told its CIDRs and which pools there are, by name.
func TestAddressesOfIPAMPlugins(t *testing.T) {
	c := New()
	give(t, c, parse(t, `apiVersion: v1
kind: Node
metadata: {name: x}
spec: {podCIDRs: [10.50.7.0/24, "fd00:7::/64"]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: p}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: q}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.50.0.0/16, disabled: true}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: manual}
spec: {cidr: 10.1.0.0/16, assignmentMode: Manual, allowedUses: [Tunnel]}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-1-0-0-26}
spec: {cidr: 10.1.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
`)...)
	state, _ := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if diff := cmp.Diff([]string{"10.50.7.0/24", "fd00:7::/64"}, state.Spec.PodCIDRs); diff != "" {
		t.Errorf("podCIDRs (-want +got):\n%s", diff)
	}
	want := []v1alpha1.Pool{
		{CIDR: "10.1.0.0/16", Names: []string{"manual"}, NotForPods: "has allowedUses without Workload"},
		{CIDR: "10.50.0.0/16", Names: []string{"main"}, NotForPods: "is disabled"},
	}
	if diff := cmp.Diff(want, state.Spec.Pools); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	for _, e := range state.Spec.Endpoints {
		if e.Addresses.Impossible == "" || !e.Addresses.Unserved {
			t.Errorf("%s: %+v, want unserved", e.ID, e.Addresses)
		}
	}
	for _, test := range []struct {
		p, q           v1alpha1.EndpointStatus
		blocks, single []string
	}{
		{v1alpha1.EndpointStatus{}, v1alpha1.EndpointStatus{}, nil, nil},
		{v1alpha1.EndpointStatus{Addresses: []string{"10.50.7.2", "fd00:7::2"}, External: true}, v1alpha1.EndpointStatus{}, []string{"10.50.7.0/24", "fd00:7::/64"}, nil},
		{v1alpha1.EndpointStatus{Addresses: []string{"10.50.7.2"}, External: true}, v1alpha1.EndpointStatus{Addresses: []string{"192.0.2.7"}, External: true}, []string{"10.50.7.0/24"}, []string{"192.0.2.7"}},
		{v1alpha1.EndpointStatus{Addresses: []string{"10.50.7.2"}}, v1alpha1.EndpointStatus{Addresses: []string{"192.0.2.7"}, External: true}, nil, []string{"192.0.2.7"}},
		{v1alpha1.EndpointStatus{}, v1alpha1.EndpointStatus{Addresses: []string{"192.0.2.7"}}, nil, nil},
		// Routes to what another plugin connected are that plugin's.
		{v1alpha1.EndpointStatus{Addresses: []string{"192.0.2.7"}, Chained: true}, v1alpha1.EndpointStatus{}, nil, nil},
		{v1alpha1.EndpointStatus{
			Addresses: []string{"10.1.0.3", "192.0.2.8", "192.0.2.9"},
			Others: []v1alpha1.InterfaceStatus{
				{Name: "net1", Addresses: []string{"192.0.2.8"}, External: true}, {Name: "net2", Addresses: []string{"192.0.2.9"}, Chained: true},
			},
		}, v1alpha1.EndpointStatus{}, nil, []string{"192.0.2.8"}},
	} {
		o := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 1}}
		test.p.ID, test.q.ID = "a/p", "a/q"
		o.Status.Endpoints = []v1alpha1.EndpointStatus{test.p, test.q}
		give(t, c, o)
		network, _ := c.Desired(Key{KindNodeNetwork, "x"}).(*v1alpha1.NodeNetwork)
		if diff := cmp.Diff(append([]string{"10.1.0.0/26"}, test.blocks...), network.Spec.Blocks) + cmp.Diff(test.single, network.Spec.Single); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", o.Status.Endpoints, diff)
		}
	}
}
