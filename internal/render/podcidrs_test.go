package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

// With --use-node-pod-cidrs the addresses of a node's pods are those that Kubernetes allotted to it, whatever pools there are.
func TestNodesUseTheirPodCIDRs(t *testing.T) {
	const cluster = `apiVersion: v1
kind: Node
metadata: {name: x}
spec: {podCIDRs: [PODCIDRS]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.1.0.0/16, natOutgoing: true}
---
apiVersion: v1
kind: Pod
metadata: {namespace: a, name: p, annotations: {ANNOTATIONS}}
`
	for _, test := range []struct {
		name, podCIDRs, annotations string
		off                         bool
		want                        []string
	}{
		{"both families", `10.1.3.0/24, "fd00:3::/120"`, "", false, []string{"10.1.3.0/24 of 10.1.0.0/16", "fd00:3::/120 of fd00:3::/120", "behind x: 10.1.3.0/24 fd00:3::/120"}},
		{"without the flag they say nothing", "10.1.3.0/24", "", true, nil},
		{"none", "", "", false, []string{"node x has no spec.podCIDRs: start kube-controller-manager with --allocate-node-cidrs, or the operator without --use-node-pod-cidrs"}},
		{"too large", "10.1.0.0/19", "", false, []string{"node x: spec.podCIDRs are 10.1.0.0/19, and each may have 4096 addresses at most (/20, /116): see --node-cidr-mask-size of kube-controller-manager"}},
		{"a pool by annotation", "10.1.3.0/24", `cni.projectcalico.org/ipv4pools: '["main"]'`, false, []string{
			"10.1.3.0/24 of 10.1.0.0/16", "behind x: 10.1.3.0/24",
			"annotations cni.projectcalico.org/ipv4pools and cni.projectcalico.org/ipv6pools: pods can't choose pools while the operator runs with --use-node-pod-cidrs: remove them",
		}},
	} {
		c := New()
		c.UseNodePodCIDRs(!test.off)
		give(t, c, parse(t, strings.NewReplacer("PODCIDRS", test.podCIDRs, "ANNOTATIONS", test.annotations).Replace(cluster))...)
		state, ok := c.Desired(Key{KindNodeState, "x"}).(*v1alpha1.NodeState)
		if !ok || len(state.Spec.Endpoints) != 1 {
			t.Fatalf("NodeState x has no endpoint: %+v", state)
		}
		network, _ := c.Desired(Key{KindNodeNetwork, "x"}).(*v1alpha1.NodeNetwork)
		var got []string
		for _, b := range state.Spec.Blocks {
			got = append(got, b.CIDR+" of "+b.Pool)
		}
		if len(network.Spec.Blocks) > 0 {
			got = append(got, "behind x: "+strings.Join(network.Spec.Blocks, " "))
		}
		if problem := state.Spec.Endpoints[0].Addresses.Impossible; problem != "" && !test.off {
			got = append(got, problem)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		// The node goes, and its CIDRs with it; one that comes later may have them.
		take(t, c, parse(t, "apiVersion: v1\nkind: Node\nmetadata: {name: x}")...)
		if n := len(c.blocks); n != 0 {
			t.Errorf("%s: %d blocks are left of a node that is gone", test.name, n)
		}
	}
}
