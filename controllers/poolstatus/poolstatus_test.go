package poolstatus

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

// TestNearlyExhausted walks a pool of 100 addresses up and down again.
func TestNearlyExhausted(t *testing.T) {
	o := &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 3}}
	r := &Reporter{}
	for _, step := range []struct {
		allocated int64
		want      string
		event     string
	}{
		{0, "False EnoughFree", ""},
		{89, "False EnoughFree", ""},
		{90, "True NearlyExhausted", "Warning NearlyExhausted"},
		{86, "True NearlyExhausted", ""},
		{100, "True Exhausted", ""},
		{99, "True NearlyExhausted", ""},
		{84, "False EnoughFree", "Normal EnoughFree"},
		{89, "False EnoughFree", ""},
		{100, "True Exhausted", "Warning Exhausted"},
	} {
		recorder := events.NewFakeRecorder(5)
		r.Events = recorder
		now := statusOf(o, &usage.Pool{Name: "p", CIDR: netip.MustParsePrefix("10.48.0.0/24"), Capacity: 100, Allocated: step.allocated})
		c := meta.FindStatusCondition(now.Conditions, v3.ConditionNearlyExhausted)
		if got := fmt.Sprintf("%s %s", c.Status, c.Reason); got != step.want || c.ObservedGeneration != 3 {
			t.Errorf("with %d in use: %s, want %s", step.allocated, got, step.want)
		}
		r.announce(o, &now)
		said := ""
		select {
		case said = <-recorder.Events:
		default:
		}
		if !strings.HasPrefix(said, step.event) || said != "" && step.event == "" {
			t.Errorf("with %d in use it says %q, want %q", step.allocated, said, step.event)
		}
		o.Status = now
	}
}

func TestStatus(t *testing.T) {
	other := metav1.Condition{Type: v3.ConditionAllocatable, Status: metav1.ConditionTrue, Reason: "Allocatable"}
	o := &v3.IPPool{Status: v3.IPPoolStatus{Conditions: []metav1.Condition{other}}}
	p := &usage.Pool{Capacity: 256, Allocated: 3, Blocks: 2, Nodes: []usage.NodeUse{{Node: "node1", Blocks: 1, Allocated: 1}, {Node: "node2", Blocks: 1, Allocated: 2}}}
	got := statusOf(o, p)
	if c := meta.FindStatusCondition(got.Conditions, v3.ConditionAllocatable); c == nil || *c != other {
		t.Errorf("the other condition is %+v", c)
	}
	if *got.Capacity != 256 || *got.Allocated != 3 || *got.Blocks != 2 || *got.NodeCount != 2 {
		t.Errorf("status is %+v", got)
	}
	want := []v3.IPPoolNodeUse{{Node: "node1", Blocks: 1, Allocated: 1}, {Node: "node2", Blocks: 1, Allocated: 2}}
	if diff := cmp.Diff(want, got.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	o.Status = got
	if again := statusOf(o, p); !same(&o.Status, &again) {
		t.Errorf("nothing changed, and the status does: %+v", again)
	}
}

// TestManyNodes: the status of a pool names those nodes that use the most of it, and says how many there are.
func TestManyNodes(t *testing.T) {
	p := &usage.Pool{Capacity: 1 << 16}
	for i := range 5_000 {
		p.Nodes = append(p.Nodes, usage.NodeUse{Node: fmt.Sprintf("node%04d", i), Blocks: 1, Allocated: int64(i)})
	}
	got := statusOf(&v3.IPPool{}, p)
	if len(got.Nodes) != v3.MaxPoolNodes || *got.NodeCount != 5_000 || got.Nodes[0].Node != "node4950" || got.Nodes[v3.MaxPoolNodes-1].Node != "node4999" {
		t.Errorf("%d of %d nodes are named, from %+v on", len(got.Nodes), *got.NodeCount, got.Nodes[0])
	}
}

// TestMetrics scrapes what a look found.
func TestMetrics(t *testing.T) {
	states := []v1alpha1.NodeState{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "node1"},
			Status: v1alpha1.NodeStateStatus{
				Endpoints:   []v1alpha1.EndpointStatus{{ID: "a/b", Addresses: []string{"10.48.0.1"}}},
				Conditions:  []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue}},
				BGPSessions: []v1alpha1.BGPSessionStatus{{Name: "a", State: "Established"}, {Name: "b", State: "Active"}},
				BGPGroups:   []v1alpha1.BGPGroupStatus{{Name: "mesh", Family: 4, Sessions: 7, Established: 5}},
			},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "node2"}, Status: v1alpha1.NodeStateStatus{Failures: []v1alpha1.Failure{{Kind: "Address"}, {Kind: "Address"}, {Kind: "Route"}}}},
	}
	service := corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.48.0.9"}}
	account := usage.Of(&usage.Cluster{
		Pools:      []v3.IPPool{{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v3.IPPoolSpec{CIDR: "10.48.0.0/24"}}},
		Blocks:     []v3.IPAMBlock{{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v3.IPAMBlockSpec{CIDR: "10.48.0.0/26", Affinity: new("host:node1")}}},
		NodeStates: states, Services: []corev1.Service{service},
	})
	c := newCollector()
	registry := prometheus.NewPedanticRegistry()
	if err := c.register(registry); err != nil {
		t.Fatal(err)
	}
	if got := scrape(t, registry); got != "" {
		t.Errorf("before the first look there is %s", got)
	}
	c.last.Store(&sight{account: account, nodes: nodesOf(states)})
	want := `
# HELP ipam_allocations_in_use Addresses of an IPPool that the pods and tunnels of a node use.
# TYPE ipam_allocations_in_use gauge
ipam_allocations_in_use{ippool="default",node="node1"} 1
# HELP ipam_blocks Blocks of an IPPool that are leased to a node.
# TYPE ipam_blocks gauge
ipam_blocks{ippool="default",node="node1"} 1
# HELP ipam_ippool_allocations Addresses of an IPPool that pods, tunnels and services use.
# TYPE ipam_ippool_allocations gauge
ipam_ippool_allocations{ippool="default"} 2
# HELP ipam_ippool_size Addresses of an IPPool.
# TYPE ipam_ippool_size gauge
ipam_ippool_size{ippool="default"} 256
# HELP manul_node_bgp_sessions BGP sessions of a node, by whether they are established.
# TYPE manul_node_bgp_sessions gauge
manul_node_bgp_sessions{established="false",node="node1"} 3
manul_node_bgp_sessions{established="true",node="node1"} 6
# HELP manul_node_failures Items that a node could not put into effect, by kind.
# TYPE manul_node_failures gauge
manul_node_failures{kind="Address",node="node2"} 2
manul_node_failures{kind="Route",node="node2"} 1
# HELP manul_node_ready 1 when the node's agent reports that what was rendered for the node is in effect.
# TYPE manul_node_ready gauge
manul_node_ready{node="node1"} 1
manul_node_ready{node="node2"} 0
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), scrape(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	// A second operator in the process takes over.
	if err := newCollector().register(registry); err != nil {
		t.Fatal(err)
	}
	if got := scrape(t, registry); got != "" {
		t.Errorf("of the second one there is %s", got)
	}
}

// scrape is what Prometheus gets.
func scrape(t *testing.T, from prometheus.Gatherer) string {
	t.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(from, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if answer.Code != http.StatusOK {
		t.Fatalf("scraping: %d %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}
