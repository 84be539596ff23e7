package render

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// The cluster of the benchmarks.
const (
	benchNodes      = 100
	benchNamespaces = 100
	benchPods       = 5_000
	benchPolicies   = 1_000
)

func benchPod(i int, app string) *corev1.Pod {
	name := fmt.Sprintf("pod-%d", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("ns-%d", i%benchNamespaces), Name: name, UID: types.UID(name),
			Labels: map[string]string{"app": app, "pod-template-hash": fmt.Sprint(i / 5), "version": "v1"},
		},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%benchNodes), ServiceAccountName: "default"},
	}
}

// benchPolicy lets one application of a namespace talk to another; every tenth is global.
func benchPolicy(i int, peer string) any {
	rule := v3.Rule{Action: v3.Allow, Source: v3.EntityRule{Selector: peer}}
	if i%10 == 0 {
		return &v3.GlobalNetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i)},
			Spec:       v3.GlobalNetworkPolicySpec{Selector: fmt.Sprintf("app == 'app-%d'", i%50), Ingress: []v3.Rule{rule}},
		}
	}
	return &v3.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%benchNamespaces), Name: fmt.Sprintf("policy-%d", i)},
		Spec:       v3.NetworkPolicySpec{Selector: fmt.Sprintf("app == 'app-%d'", i/10%50), Ingress: []v3.Rule{rule}},
	}
}

func setPolicy(b *testing.B, c *Cluster, p any) {
	switch p := p.(type) {
	case *v3.NetworkPolicy:
		give(b, c, p)
	case *v3.GlobalNetworkPolicy:
		give(b, c, p)
	}
}

func benchCluster(b *testing.B) *Cluster {
	b.Helper()
	c := New()
	states := map[string]*v1alpha1.NodeState{}
	for i := range benchNodes {
		name := fmt.Sprintf("node-%d", i)
		give(b, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		states[name] = &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	for i := range benchNamespaces {
		give(b, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("ns-%d", i), Labels: map[string]string{"team": fmt.Sprint(i % 7)}}})
	}
	for i := range benchPods {
		pod := benchPod(i, fmt.Sprintf("app-%d", i/benchNamespaces))
		give(b, c, pod)
		state := states[pod.Spec.NodeName]
		state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{
			ID: pod.Namespace + "/" + pod.Name, UID: pod.UID, Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)},
		})
	}
	for _, state := range states {
		give(b, c, state)
	}
	for i := range benchPolicies {
		setPolicy(b, c, benchPolicy(i, fmt.Sprintf("app == 'app-%d'", i%50)))
	}
	answer(c)
	return c
}

// answer renders all that changed and returns the number of objects and the size of the largest.
func answer(c *Cluster) (objects, largest int) {
	for _, key := range c.Dirty() {
		obj := c.Desired(key)
		if text, err := json.Marshal(obj); err == nil {
			largest = max(largest, len(text))
		}
		objects++
	}
	c.DirtyPolicies()
	return objects, largest
}

func BenchmarkWholeCluster(b *testing.B) {
	for b.Loop() {
		benchCluster(b)
	}
	c := benchCluster(b)
	for name := range c.nodes {
		c.touchNode(c.nodes[name])
	}
	for name := range c.shards {
		c.touch(KindSetCatalog, name)
	}
	for name := range c.programs {
		c.touch(KindPolicyProgram, name)
	}
	objects, largest := answer(c)
	b.ReportMetric(float64(largest), "B/largest-object")
	b.ReportMetric(float64(objects), "objects")
}

func BenchmarkOnePodChanges(b *testing.B) {
	c := benchCluster(b)
	objects, i := 0, 0
	for b.Loop() {
		give(b, c, benchPod(17, fmt.Sprintf("app-%d", i%2)))
		n, _ := answer(c)
		objects += n
		i++
	}
	b.ReportMetric(float64(objects)/float64(i), "objects/op")
}

func BenchmarkOnePolicyChanges(b *testing.B) {
	c := benchCluster(b)
	objects, i := 0, 0
	for b.Loop() {
		setPolicy(b, c, benchPolicy(11, fmt.Sprintf("app == 'app-%d'", i%2)))
		n, _ := answer(c)
		objects += n
		i++
	}
	b.ReportMetric(float64(objects)/float64(i), "objects/op")
}

func BenchmarkOneGlobalPolicyChanges(b *testing.B) {
	c := benchCluster(b)
	objects, i := 0, 0
	for b.Loop() {
		setPolicy(b, c, benchPolicy(10, fmt.Sprintf("app == 'app-%d'", i%2)))
		n, _ := answer(c)
		objects += n
		i++
	}
	b.ReportMetric(float64(objects)/float64(i), "objects/op")
}
