package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

// twoPools is a node with a block of each of two pools, and two pods: one that asks for a pool, one that does not.
const twoPools = `apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-1-0-0-26}
spec: {cidr: 10.1.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
---
apiVersion: projectcalico.org/v3
kind: IPAMBlock
metadata: {name: 10-2-0-0-26}
spec: {cidr: 10.2.0.0/26, affinity: "host:x", allocations: [], attributes: [], unallocated: [], strictAffinity: false}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: any}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: picky, annotations: {cni.projectcalico.org/ipv4pools: '["two"]'}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: two}
`

func TestWhoGetsAddressesFromWhichPool(t *testing.T) {
	for _, test := range []struct {
		name, pool string
		// any and picky are the pools that the pods may take from; none: all blocks of the node.
		any, picky []string
		// reserved of the block of pool two.
		reserved []string
	}{
		{"automatic", "spec: {cidr: 10.2.0.0/16}", nil, []string{"10.2.0.0/16"}, nil},
		{"manual: only for pods that name it", "spec: {cidr: 10.2.0.0/16, assignmentMode: Manual}", []string{"10.1.0.0/16"}, []string{"10.2.0.0/16"}, nil},
		{"disabled: no new addresses", "spec: {cidr: 10.2.0.0/16, disabled: true}", nil, []string{"10.2.0.0/16"}, []string{"10.2.0.0/26"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New()
			give(t, c, parse(t, twoPools+test.pool)...)
			state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
			if !ok {
				t.Fatal("there is no NodeState x")
			}
			got := map[string][]string{"two reserved": state.Spec.Blocks[1].Reserved}
			for _, e := range state.Spec.Endpoints {
				got[e.ID] = e.Addresses.Pools
			}
			want := map[string][]string{"a/any": test.any, "a/picky": test.picky, "two reserved": test.reserved}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pools (-want +got):\n%s", diff)
			}
		})
	}
}

// The kubelet starts a static pod, and asks for its network, under another UID than that of its mirror in the API.
func TestStaticPodsGoByTheUIDOfTheirSandbox(t *testing.T) {
	c := New()
	give(t, c, parse(t, `apiVersion: v1
kind: Node
metadata: {name: x}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: web-x, annotations: {kubernetes.io/config.mirror: 0a1b2c}}`)...)
	state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
	if !ok || len(state.Spec.Endpoints) != 1 {
		t.Fatalf("NodeState x has no endpoint: %+v", state)
	}
	if uid := state.Spec.Endpoints[0].UID; uid != "0a1b2c" {
		t.Errorf("UID %q, want that of the sandbox", uid)
	}
}
