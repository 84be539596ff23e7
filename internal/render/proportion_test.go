package render

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// The region is a cluster in which it shows what a change touches: each of its namespaces lies on two nodes of its own.
const (
	regionNamespaces = 10
	regionPods       = 10 // of each namespace, half of them web and half db
)

func regionPod(ns, i int, labels ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprint("ns", ns), Name: fmt.Sprint("pod", i), UID: types.UID(fmt.Sprintf("uid-%d-%d", ns, i)),
			Labels: map[string]string{"app": []string{"web", "db"}[i%2], "hash": fmt.Sprint(ns)},
		},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node%02d", 2*ns+i/2%2), ServiceAccountName: "default"},
	}
	for i := 0; i < len(labels); i += 2 {
		p.Labels[labels[i]] = labels[i+1]
	}
	return p
}

func regionNamespace(ns int, labels ...string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ns", ns), Labels: map[string]string{"team": []string{"a", "b"}[ns%2]}}}
	for i := 0; i < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	return n
}

const regionWide = `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: guard}
spec: {order: 100, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: team-a}
spec: {namespaceSelector: team == 'a', selector: app == 'web', ingress: [{action: Allow, source: {namespaceSelector: team == 'a', selector: app == 'web'}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: trusted}
spec: {selector: app == 'db', types: [Ingress], ingress: [{action: Allow, source: {serviceAccounts: {selector: trust == 'high'}}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: no-strangers}
spec: {tier: guard, order: 1, selector: projectcalico.org/namespace == 'ns0', types: [Egress], egress: [{action: Deny, destination: {selector: kind == 'stranger'}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: strangers, labels: {kind: stranger}}
spec: {nets: [192.0.2.0/24]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.0.0.0/8}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: own}
spec: {cidr: 172.16.0.0/16, namespaceSelector: addresses == 'own'}
`

func regionPolicy(ns int, action v3.Action, peer string) *v3.NetworkPolicy {
	return &v3.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", ns), Name: "web"},
		Spec: v3.NetworkPolicySpec{
			Selector: "app == 'web'", Types: []v3.PolicyType{v3.PolicyTypeIngress},
			Ingress: []v3.Rule{{Action: action, Source: v3.EntityRule{Selector: peer}}},
		},
	}
}

func regionNode(i int, labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%02d", i), Labels: labels}}
}

// region is that cluster, at rest: everything is written and in force.
type region struct {
	*Cluster

	version int
}

func newRegion(t *testing.T) *region {
	t.Helper()
	d := &region{Cluster: New()}
	for ns := range regionNamespaces {
		give(t, d.Cluster, regionNode(2*ns, nil), regionNode(2*ns+1, nil), regionNamespace(ns))
		give(t, d.Cluster, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", ns), Name: "default"}})
		for i := range regionPods {
			give(t, d.Cluster, regionPod(ns, i))
		}
		give(t, d.Cluster, regionPolicy(ns, v3.Allow, "app == 'db'"))
	}
	give(t, d.Cluster, parse(t, regionWide)...)
	d.rest(t)
	return d
}

// rest has everything written and put into force, until nothing follows.
func (d *region) rest(t *testing.T) {
	t.Helper()
	const rounds = 10
	for range rounds {
		keys := d.Dirty()
		for _, key := range keys {
			obj := d.Desired(key)
			if obj == nil {
				continue
			}
			obj = obj.DeepCopyObject()
			d.version++
			obj.(metav1.Object).SetResourceVersion(fmt.Sprint(d.version))
			obj.(metav1.Object).SetGeneration(int64(d.version))
			if state, ok := obj.(*v1alpha1.NodeState); ok {
				state.Status.ObservedGeneration = state.Generation
				state.Status.Applied = map[string]string{}
				for _, kind := range []Kind{KindSetCatalog, KindPolicyProgram, KindNodeEndpoints, KindNodeNetwork} {
					state.Status.Applied[string(kind)] = "1000000"
				}
				for _, e := range state.Spec.Endpoints {
					var ns, i int
					if _, err := fmt.Sscanf(string(e.UID), "uid-%d-%d", &ns, &i); err != nil {
						t.Fatal(err)
					}
					state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{ID: e.ID, UID: e.UID, Addresses: []string{fmt.Sprintf("10.0.%d.%d", ns, i)}})
				}
			}
			give(t, d.Cluster, obj)
		}
		if len(keys) == 0 {
			d.DirtyPolicies()
			return
		}
	}
	t.Fatal("the cluster does not come to rest")
}

// touched says how many rendered objects of each kind, and how many reports on policies, may have changed.
func (d *region) touched() string {
	count := map[Kind]int{}
	for _, key := range d.Dirty() {
		count[key.Kind]++
	}
	var out []string
	for _, kind := range []Kind{KindSetCatalog, KindPolicyProgram, KindNodeEndpoints, KindNodeNetwork, KindNodeState} {
		if n := count[kind]; n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if n := len(d.DirtyPolicies()); n > 0 {
		out = append(out, fmt.Sprintf("%d reports", n))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// TestWhatEachKindOfChangeTouches: of 20 nodes, 100 pods and 13 policies.
func TestWhatEachKindOfChangeTouches(t *testing.T) {
	stranger := func(labels map[string]string, nets ...string) runtime.Object {
		return &v3.GlobalNetworkSet{ObjectMeta: metav1.ObjectMeta{Name: "strangers", Labels: labels}, Spec: v3.GlobalNetworkSetSpec{Nets: nets}}
	}
	kind := map[string]string{"kind": "stranger"}
	for _, tc := range []struct {
		change string
		to     runtime.Object
		gone   bool
		want   string
	}{
		{"a pod gets a label that no selector looks at", regionPod(0, 0, "hash", "x"), false, "nothing"},
		{"a pod gets a label by which policies select and sets are made", regionPod(0, 0, "app", "db"), false, "1 NodeEndpoints, 1 NodeState"},
		{"a pod like others comes", regionPod(3, 20), false, "1 NodeEndpoints, 1 NodeState"},
		{"a pod goes", regionPod(3, 0), true, "1 NodeEndpoints, 1 NodeState"},
		{"a namespace gets a label that no selector looks at", regionNamespace(0, "x", "y"), false, "nothing"},
		{"a namespace gets a label by which one policy selects", regionNamespace(1, "team", "a"), false, "1 SetCatalog, 2 NodeState, 1 reports"},
		{"a namespace gets a label by which a pool chooses", regionNamespace(4, "addresses", "own"), false, "2 NodeState"},
		{"a namespace comes, without pods", regionNamespace(50), false, "nothing"},
		{"a service account gets a label that no selector looks at", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns0", Name: "default", Labels: map[string]string{"x": "y"}}}, false, "nothing"},
		{"a service account gets a label by which a set is made", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns0", Name: "default", Labels: map[string]string{"trust": "high"}}}, false, "1 SetCatalog"},
		{"a network set gets a net", stranger(kind, "192.0.2.0/24", "198.51.100.0/24"), false, "1 SetCatalog"},
		{"a network set leaves the only set that it is in", stranger(nil, "192.0.2.0/24"), false, "1 SetCatalog"},
		{"a policy gets another action", regionPolicy(0, v3.Deny, "app == 'db'"), false, "1 PolicyProgram, 1 reports"},
		{"a policy gets another peer", regionPolicy(0, v3.Allow, "app == 'web'"), false, "2 SetCatalog, 1 PolicyProgram, 1 reports"},
		{"a policy gets a peer by a key that nobody used", regionPolicy(0, v3.Allow, "hash == '0'"), false, "3 SetCatalog, 1 PolicyProgram, 2 NodeEndpoints, 2 NodeState, 1 reports"},
		{"a policy goes", regionPolicy(0, v3.Allow, ""), true, "1 SetCatalog, 1 PolicyProgram, 2 NodeState, 1 reports"},
		{"a tier moves, in which a policy for one namespace is", &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "guard"}, Spec: v3.TierSpec{Order: new(50.0), DefaultAction: v3.Pass}}, false, "2 NodeState, 1 reports"},
		{"a tier comes, without policies", &v3.Tier{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: v3.TierSpec{Order: new(50.0)}}, false, "nothing"},
		{"a pool changes", &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: v3.IPPoolSpec{CIDR: "10.0.0.0/8", NATOutgoing: true}}, false, "20 NodeState"},
		{"a node gets a label", regionNode(7, map[string]string{"zone": "x"}), false, "1 NodeState"},
		{"a node comes", regionNode(70, nil), false, "1 NodeEndpoints, 1 NodeNetwork, 1 NodeState"},
	} {
		t.Run(tc.change, func(t *testing.T) {
			d := newRegion(t)
			compiled := map[PolicyRef]any{}
			for ref, p := range d.policies {
				compiled[ref] = p.compiled
			}
			if tc.gone {
				take(t, d.Cluster, tc.to)
			} else {
				give(t, d.Cluster, tc.to)
			}
			if got := d.touched(); got != tc.want {
				t.Errorf("touched: %s; want %s", got, tc.want)
			}
			var anew []string
			for ref, p := range d.policies {
				if p.compiled != compiled[ref] {
					anew = append(anew, ref.String())
				}
			}
			most := 0
			if _, ok := tc.to.(*v3.NetworkPolicy); ok {
				most = 1 // itself
			}
			if len(anew) > most {
				slices.Sort(anew)
				t.Errorf("compiled anew: %v", anew)
			}
		})
	}
}
