package render

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

// nodeSet is the only set of nodes: its selector and CIDRs.
func nodeSet(c *Cluster) string {
	for _, s := range c.shards {
		for _, set := range s.render().Sets {
			if set.Nodes != "" {
				return set.Nodes + ": " + strings.Join(set.CIDRs, " ")
			}
		}
	}
	return ""
}

func TestSetsOfNodesFollowTheNodes(t *testing.T) {
	const policy = `
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: p}
spec:
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{nodes: {matchExpressions: [{key: role, operator: NotIn, values: [worker]}]}}]}]`
	const control = `
apiVersion: v1
kind: Node
metadata: {name: control, labels: {role: control}}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: "2001:db8::1"}, {type: Hostname, address: control}]}`
	const worker = `
apiVersion: v1
kind: Node
metadata: {name: worker, labels: {role: worker}}
status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}`
	c := New()
	give(t, c, parse(t, town+"\n---\n"+policy+"\n---\n"+control+"\n---\n"+worker)...)
	expect := func(want string) {
		t.Helper()
		var dirty []Key
		for _, key := range c.Dirty() {
			if key.Kind == KindSetCatalog {
				dirty = append(dirty, key)
			}
		}
		if got := nodeSet(c); got != want || len(dirty) != 1 {
			t.Errorf("got %q (catalogs to write: %v), want %q", got, dirty, want)
		}
	}
	expect("role != 'worker': 10.0.0.1/32 2001:db8::1/128")
	give(t, c, parse(t, strings.ReplaceAll(worker, "role: worker", "role: other"))...)
	expect("role != 'worker': 10.0.0.1/32 10.0.0.2/32 2001:db8::1/128")
	give(t, c, parse(t, strings.ReplaceAll(control, "10.0.0.1", "10.0.0.7"))...)
	expect("role != 'worker': 10.0.0.2/32 10.0.0.7/32 2001:db8::1/128")
	// What it sends into tunnels has the address of its end there.
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "control"}, Status: v1alpha1.NodeStateStatus{
		Tunnels: []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelVXLAN, Address: "10.48.0.1"}, {Kind: v1alpha1.TunnelVXLANv6}},
	}}
	give(t, c, state)
	expect("role != 'worker': 10.0.0.2/32 10.0.0.7/32 10.48.0.1/32 2001:db8::1/128")
	take(t, c, state)
	expect("role != 'worker': 10.0.0.2/32 10.0.0.7/32 2001:db8::1/128")
	take(t, c, &corev1.Node{ObjectMeta: parse(t, control)[0].(*corev1.Node).ObjectMeta})
	expect("role != 'worker': 10.0.0.2/32")

	// Nothing but nodes is in it, and nodes are in no other set.
	give(t, c, parse(t, "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, source: {namespaceSelector: global()}}]}")...)
	for _, s := range c.shards {
		for _, set := range s.render().Sets {
			if set.Nodes == "" && len(set.CIDRs) > 0 || set.Nodes != "" && len(set.Identities) > 0 {
				t.Errorf("set %+v", v1alpha1.Set{Selector: set.Selector, Nodes: set.Nodes, CIDRs: set.CIDRs, Identities: set.Identities})
			}
		}
	}
	take(t, c, parse(t, policy)...)
	if got := nodeSet(c); got != "" {
		t.Errorf("without the policy there is %s", got)
	}
}
