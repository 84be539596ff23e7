// Package clusters makes up large clusters, of the kinds of namespaces, workloads and policies that real ones have. The same shape is always
// the same cluster.
package clusters

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// Shape is how large a cluster is and how it is made up.
type Shape struct {
	Nodes, Pods, Policies int
	// Namespaces: policies are spread evenly over them, pods as real ones are: a few namespaces have many.
	Namespaces int
	// Seed decides which pods change, and nothing of what there is at first.
	Seed uint64
}

// Check tells what is wrong with a shape.
func (s Shape) Check() error {
	const largest = 1 << 24 // addresses of 10.0.0.0/8
	switch {
	case s.Nodes < 1 || s.Nodes > 1<<16:
		return fmt.Errorf("%d nodes: want 1 to 65,536", s.Nodes)
	case s.Pods < 1 || s.Pods > largest/2:
		return fmt.Errorf("%d pods: want 1 to %d", s.Pods, largest/2)
	case s.Namespaces < 1:
		return fmt.Errorf("%d namespaces: want at least 1", s.Namespaces)
	case s.Policies < 0:
		return fmt.Errorf("%d policies: want 0 or more", s.Policies)
	}
	return nil
}

// AppsOfNamespace is how many applications share a namespace; each is a Deployment, whose pods have one label "app". In a cluster with a
// namespace for 10 nodes and 30 pods on each a Deployment so has 10 pods on average, the largest some hundred. The load test of Kubernetes'
// SIG Scalability (clusterloader2, half of the pods in Deployments of 5, a quarter in those of 30 and a quarter in those of 250) has 9 on
// average. Policies are about the larger ones: those of a namespace go to its applications in the order of their size.
const AppsOfNamespace = 30

// Of a namespace and of an application there are the more pods the lower its number is: that of number i has a share of 1/(i+flat).
const flatNamespaces, flatApps = 20, 2

// Cluster makes the objects of a cluster.
type Cluster struct {
	Shape

	Random *rand.Rand
	// deployment of each pod: namespace * AppsOfNamespace + application.
	deployment []int32
}

// New makes a cluster of a shape.
func New(s Shape) *Cluster {
	c := &Cluster{Shape: s, Random: rand.New(rand.NewPCG(s.Seed, s.Seed+1)), deployment: make([]int32, s.Pods)}
	apps := shares(s.Namespaces*AppsOfNamespace, s.Pods, func(i int) float64 {
		return 1 / float64(i/AppsOfNamespace+flatNamespaces) / float64(i%AppsOfNamespace+flatApps)
	})
	pod := 0
	for deployment, n := range apps {
		for range n {
			c.deployment[pod] = int32(deployment)
			pod++
		}
	}
	return c
}

// shares divides total among n by weight.
func shares(n, total int, weight func(int) float64) []int {
	sum := 0.0
	for i := range n {
		sum += weight(i)
	}
	out := make([]int, n)
	upTo, given := 0.0, 0
	for i := range n {
		upTo += weight(i)
		out[i] = int(upTo/sum*float64(total)+0.5) - given
		given += out[i]
	}
	out[n-1] += total - given
	return out
}

// NodeName is that of a node by its number.
func NodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// NamespaceName is that of a namespace by its number.
func NamespaceName(i int) string { return fmt.Sprintf("team-%03d", i) }

// Namespace of a pod. Pods come as a list brings them: one namespace after the other, one Deployment after the other. Pods beyond
// those of the shape, which come later, take the places of those again.
func (c *Cluster) Namespace(pod int) int { return int(c.deployment[pod%c.Pods]) / AppsOfNamespace }

// App is the application of a pod in its namespace.
func (c *Cluster) App(pod int) int { return int(c.deployment[pod%c.Pods]) % AppsOfNamespace }

// Node is the number of a pod's node: the pods of a Deployment are on nodes next to each other, one on each.
func (c *Cluster) Node(pod int) int { return pod % c.Nodes }

// PodID is a pod's ID in rendered state.
func (c *Cluster) PodID(pod int) string {
	return fmt.Sprintf("%s/%s", NamespaceName(c.Namespace(pod)), c.podName(pod))
}

func (c *Cluster) podName(pod int) string {
	return fmt.Sprintf("app-%05x-%08d", c.deployment[pod%c.Pods], pod)
}

// Pod of a number, with the label of an application of its namespace. Its other labels are those that a Deployment gives.
func (c *Cluster) Pod(i, app int) *corev1.Pod {
	own := c.App(i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: NamespaceName(c.Namespace(i)), Name: c.podName(i), UID: types.UID(fmt.Sprintf("uid-%d", i)),
			Labels: map[string]string{
				"app": fmt.Sprintf("app-%d", app), "tier": []string{"front", "middle", "back"}[app%3],
				"pod-template-hash": fmt.Sprintf("%05x", c.deployment[i%c.Pods]), "version": fmt.Sprintf("v%d", own%4),
			},
		},
		Spec: corev1.PodSpec{
			NodeName: NodeName(c.Node(i)), ServiceAccountName: fmt.Sprintf("account-%d", own),
			Containers: []corev1.Container{{Name: "main", Image: "registry.example/main:v1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// AddressOf a pod by its number.
func AddressOf(pod int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(pod >> 16), byte(pod >> 8), byte(pod)})
}

// NumberOf is the number of the pod with an ID; false for an ID that is none of a cluster's.
func NumberOf(id string) (int, bool) {
	const digits = 8
	n := 0
	if len(id) <= digits {
		return 0, false
	}
	for _, d := range []byte(id[len(id)-digits:]) {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

// Sets of CIDRs: global ones, that guardrails name, and one for some of the namespaces.
const globalSets, netsOfGlobalSet, netsOfSet, setEvery = 10, 200, 20, 5

// Objects calls each with all objects of the cluster, in an order in which watches may bring them. NodeStates have only what the nodes
// say: the addresses of pods.
func (c *Cluster) Objects(each func(runtime.Object)) {
	states := make([]*v1alpha1.NodeState, c.Nodes)
	for i := range c.Nodes {
		each(c.node(i))
		states[i] = &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: NodeName(i)}}
	}
	for i := range c.Namespaces {
		each(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: NamespaceName(i), Labels: map[string]string{
			"kubernetes.io/metadata.name": NamespaceName(i), "environment": []string{"production", "staging", "test"}[i%3],
		}}})
		for app := range AppsOfNamespace {
			each(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: NamespaceName(i), Name: fmt.Sprintf("account-%d", app)}})
		}
	}
	c.sets(each)
	for i := range c.Policies {
		each(c.Policy(i, 0))
	}
	for i := range c.Pods {
		pod := c.Pod(i, c.App(i))
		each(pod)
		state := states[c.Node(i)]
		state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{
			ID: pod.Namespace + "/" + pod.Name, UID: pod.UID, Addresses: []string{AddressOf(i).String()},
		})
	}
	for _, state := range states {
		each(state)
	}
}

func (c *Cluster) node(i int) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: NodeName(i), Labels: map[string]string{"zone": fmt.Sprintf("zone-%d", i%3)}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: NodeAddress(i).String()},
		}},
	}
}

// NodeAddress is that of a node by its number.
func NodeAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}) }

func (c *Cluster) sets(each func(runtime.Object)) {
	for i := range globalSets {
		set := &v3.GlobalNetworkSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("set-%d", i), Labels: map[string]string{"set": fmt.Sprint(i)}}}
		for j := range netsOfGlobalSet {
			set.Spec.Nets = append(set.Spec.Nets, fmt.Sprintf("198.%d.%d.0/24", 18+i%2, (i*netsOfGlobalSet+j)%256))
		}
		each(set)
	}
	for i := 0; i < c.Namespaces; i += setEvery {
		set := &v3.NetworkSet{ObjectMeta: metav1.ObjectMeta{Namespace: NamespaceName(i), Name: "partners", Labels: map[string]string{"kind": "partners"}}}
		for j := range netsOfSet {
			set.Spec.Nets = append(set.Spec.Nets, fmt.Sprintf("203.0.%d.%d/32", i%256, j))
		}
		each(set)
	}
}
