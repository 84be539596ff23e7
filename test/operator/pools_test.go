package operator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/controllers"
)

// TestPoolStatus fills a small pool: its status counts, nearly exhausted is told by a condition and an event, and writes are few.
func TestPoolStatus(t *testing.T) {
	k := newCluster(t)
	k.agents()
	k.create(node("node1", "10.0.0.11"), node("node2", "10.0.0.12"), namespace("full"))
	small := pool("small", "10.48.0.0/28")
	small.Spec.BlockSize = 29
	k.create(small)
	k.operator(controllers.Options{})
	use := func(allocated int64, nearly metav1.ConditionStatus, nodes ...v3.IPPoolNodeUse) {
		t.Helper()
		k.eventually(fmt.Sprintf("the pool has %d addresses in use", allocated), func() error {
			k.get(small)
			s := &small.Status
			if s.Capacity == nil || *s.Capacity != 16 || s.Allocated == nil || *s.Allocated != allocated || s.Blocks == nil || *s.Blocks != 2 || !slices.Equal(s.Nodes, nodes) {
				return fmt.Errorf("status is %+v", s)
			}
			if meta.FindStatusCondition(s.Conditions, v3.ConditionAllocatable) == nil {
				return fmt.Errorf("the lessor's condition is gone: %+v", s.Conditions)
			}
			return condition(small, s.Conditions, v3.ConditionNearlyExhausted, nearly)
		})
	}
	use(0, metav1.ConditionFalse, v3.IPPoolNodeUse{Node: "node1", Blocks: 1}, v3.IPPoolNodeUse{Node: "node2", Blocks: 1})

	// Eight pods on each node, at once: the status is written a few times, not sixteen.
	w, err := k.client.Watch(t.Context(), &v3.IPPoolList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: small.ResourceVersion}})
	k.must(err, "watching the pool")
	defer w.Stop()
	began := time.Now()
	for i := range 16 {
		k.create(pod("full", fmt.Sprintf("p%d", i), nodeName(1+i%2), nil))
	}
	use(16, metav1.ConditionTrue, v3.IPPoolNodeUse{Node: "node1", Blocks: 1, Allocated: 8}, v3.IPPoolNodeUse{Node: "node2", Blocks: 1, Allocated: 8})
	counts := map[int64]bool{}
	for done := false; !done; {
		e := <-w.ResultChan()
		p, ok := e.Object.(*v3.IPPool)
		if e.Type != watch.Modified || !ok {
			t.Fatalf("the watch brings %+v", e)
		}
		counts[*p.Status.Allocated] = true
		done = *p.Status.Allocated == 16
	}
	if most := 2 + int(time.Since(began)/(5*time.Second)); len(counts) > most {
		t.Errorf("the count was written %d times (%v), want %d at most", len(counts), counts, most)
	}
	k.eventually("an event tells", func() error { return k.told("small", "Warning", "Exhausted") })
	if c := meta.FindStatusCondition(small.Status.Conditions, v3.ConditionNearlyExhausted); !strings.Contains(c.Message, "add a pool") {
		t.Errorf("the condition says no way out: %q", c.Message)
	}
}

// TestEventsAboutAnnotations: what annotations ask for and can't be had is told on the pod, and on the node.
func TestEventsAboutAnnotations(t *testing.T) {
	k := newCluster(t)
	a := k.agents()
	sick := node("node1", "10.0.0.11")
	sick.Annotations = map[string]string{"projectcalico.org/ASNumber": "AS64512", "projectcalico.org/RouteReflectorClusterID": "1"}
	k.create(sick, namespace("asks"))
	k.operator(withPool())
	k.eventually("the node is told of its AS number", func() error { return k.told("node1", "Warning", "InvalidAnnotation") })
	for name, annotations := range map[string]map[string]string{
		"unknown-pool":  {"cni.projectcalico.org/ipv4pools": `["nowhere"]`},
		"outside":       {"cni.projectcalico.org/ipAddrs": `["192.0.2.1"]`},
		"wrong-family":  {"cni.projectcalico.org/ipv6pools": `["default-ipv4-ippool"]`},
		"malformed":     {"cni.projectcalico.org/ipAddrs": `10.48.0.7`},
		"of-its-floats": {"cni.projectcalico.org/floatingIPs": `10.48.0.7`},
	} {
		p := pod("asks", name, "node1", nil)
		p.Annotations = annotations
		k.create(p)
		k.eventually("the pod "+name+" is told", func() error { return k.told(name, "Warning", "AddressAnnotation") })
	}
	// One that is in use, as the agent finds out.
	a.hold("node1", true)
	p := pod("asks", "taken", "node1", nil)
	p.Annotations = map[string]string{"cni.projectcalico.org/ipAddrs": `["10.48.0.1"]`}
	k.create(p)
	k.endpointOf("node1", "asks/taken")
	state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	k.get(state)
	before := state.DeepCopy()
	state.Status.Endpoints = slices.DeleteFunc(state.Status.Endpoints, func(e v1alpha1.EndpointStatus) bool { return e.ID == "asks/taken" })
	state.Status.Failures = []v1alpha1.Failure{{Kind: "Address", Name: "asks/taken", Message: "address 10.48.0.1 is in use by asks/other"}}
	k.must(k.client.Status().Patch(t.Context(), state, client.MergeFrom(before)), "reporting the failure")
	k.eventually("the pod taken is told", func() error { return k.told("taken", "Warning", "AddressAnnotation") })
}
