package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// shape is how large a cluster is and how it is made up. The same shape is always the same cluster.
type shape struct {
	nodes, pods, policies int
	// namespaces: pods and policies are spread evenly over them.
	namespaces int
}

// appsOfNamespace is how many applications share a namespace; each has pods of one label "app".
const appsOfNamespace = 10

// cluster makes the objects of a cluster.
type cluster struct {
	shape
	random *rand.Rand
}

func newCluster(s shape) *cluster {
	return &cluster{shape: s, random: rand.New(rand.NewPCG(1, 2))}
}

func nodeName(i int) string      { return fmt.Sprintf("node-%04d", i) }
func namespaceName(i int) string { return fmt.Sprintf("team-%03d", i) }

// pod i of the cluster, with the label of an application. Its other labels are those that a Deployment gives. Pods come as a list
// brings them: one namespace after the other, one Deployment after the other.
func (c *cluster) pod(i, app int) *corev1.Pod {
	namespace := i * c.namespaces / max(c.pods, i+1)
	hash := fmt.Sprintf("%05x", namespace*appsOfNamespace+c.appOf(i))
	name := fmt.Sprintf("app-%s-%06d", hash, i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceName(namespace), Name: name, UID: types.UID(fmt.Sprintf("uid-%d", i)),
			Labels: map[string]string{
				"app": fmt.Sprintf("app-%d", app), "tier": []string{"front", "middle", "back"}[app%3],
				"pod-template-hash": hash, "version": fmt.Sprintf("v%d", c.appOf(i)%4),
			},
		},
		Spec: corev1.PodSpec{
			NodeName: nodeName(i % c.nodes), ServiceAccountName: fmt.Sprintf("account-%d", c.appOf(i)),
			Containers: []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// appOf is the application of a pod: the pods of a namespace are divided evenly.
func (c *cluster) appOf(pod int) int {
	return pod * c.namespaces * appsOfNamespace / c.pods % appsOfNamespace
}

func addressOf(pod int) string {
	return netip.AddrFrom4([4]byte{10, byte(pod >> 16), byte(pod >> 8), byte(pod)}).String()
}

// objects calls each with all objects of the cluster, in an order in which watches may bring them.
func (c *cluster) objects(each func(runtime.Object)) {
	states := make([]*v1alpha1.NodeState, c.nodes)
	for i := range c.nodes {
		each(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{"zone": fmt.Sprintf("zone-%d", i%3)}}})
		states[i] = &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}}
	}
	for i := range c.namespaces {
		each(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(i), Labels: map[string]string{
			"kubernetes.io/metadata.name": namespaceName(i), "environment": []string{"production", "staging", "test"}[i%3],
		}}})
		for app := range appsOfNamespace {
			each(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(i), Name: fmt.Sprintf("account-%d", app)}})
		}
	}
	for i := range 10 {
		set := &v3.GlobalNetworkSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("set-%d", i), Labels: map[string]string{"set": fmt.Sprint(i)}}}
		for j := range 200 {
			set.Spec.Nets = append(set.Spec.Nets, fmt.Sprintf("198.%d.%d.0/24", 18+i%2, (i*200+j)%256))
		}
		each(set)
	}
	for i := range c.policies {
		each(c.policy(i, 0))
	}
	for i := range c.pods {
		pod := c.pod(i, c.appOf(i))
		each(pod)
		state := states[i%c.nodes]
		state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{
			ID: pod.Namespace + "/" + pod.Name, UID: pod.UID, Addresses: []string{addressOf(i)},
		})
	}
	for _, state := range states {
		each(state)
	}
}

// policy i, in one of several versions: of each namespace one denies by default, the others let one application reach another;
// of 100 policies one is a global guardrail.
func (c *cluster) policy(i, version int) runtime.Object {
	tcp := intstr.FromString("TCP")
	port := intstr.FromInt(8080 + version)
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", i), UID: types.UID(fmt.Sprintf("policy-%d", i)), Generation: int64(version + 1)}
	app := i / c.namespaces % appsOfNamespace
	if i%100 == 99 {
		order := float64(i)
		return &v3.GlobalNetworkPolicy{ObjectMeta: meta, Spec: v3.GlobalNetworkPolicySpec{
			Order: &order, Selector: fmt.Sprintf(`app == "app-%d" && environment != "x%d"`, app, i%5), NamespaceSelector: `environment == "production"`,
			Types: []v3.PolicyType{v3.PolicyTypeEgress},
			Egress: []v3.Rule{
				{Action: v3.Deny, Destination: v3.EntityRule{Selector: fmt.Sprintf(`set == "%d"`, i%10)}},
				{Action: v3.Pass, Protocol: &tcp, Destination: v3.EntityRule{Ports: []intstr.IntOrString{port}}},
			},
		}}
	}
	meta.Namespace = namespaceName(i % c.namespaces)
	if i < c.namespaces {
		return &v3.NetworkPolicy{ObjectMeta: meta, Spec: v3.NetworkPolicySpec{Selector: "all()", Types: []v3.PolicyType{v3.PolicyTypeIngress, v3.PolicyTypeEgress}}}
	}
	peer := (app + 1 + i/c.namespaces/appsOfNamespace) % appsOfNamespace
	from := v3.EntityRule{Selector: fmt.Sprintf(`app == "app-%d"`, peer)}
	if i%4 == 0 { // from another namespace
		from.NamespaceSelector = fmt.Sprintf(`kubernetes.io/metadata.name == "%s"`, namespaceName((i*7+3)%c.namespaces))
	}
	return &v3.NetworkPolicy{ObjectMeta: meta, Spec: v3.NetworkPolicySpec{
		Selector: fmt.Sprintf(`app == "app-%d"`, app), Types: []v3.PolicyType{v3.PolicyTypeIngress, v3.PolicyTypeEgress},
		Ingress: []v3.Rule{{Action: v3.Allow, Protocol: &tcp, Source: from, Destination: v3.EntityRule{Ports: []intstr.IntOrString{port}}}},
		Egress:  []v3.Rule{{Action: v3.Allow, Protocol: &tcp, Destination: v3.EntityRule{Selector: fmt.Sprintf(`app == "app-%d"`, peer)}}},
	}}
}
