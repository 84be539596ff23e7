package oracle_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/oracle"
)

// fataler is testing.T and rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// objects of a world, with the nodes and what the nodes say of addresses.
func objects(w *oracle.World) []runtime.Object {
	var out []runtime.Object
	add := func(o runtime.Object) { out = append(out, o) }
	for _, o := range w.Namespaces {
		add(o)
	}
	for _, o := range w.ServiceAccounts {
		add(o)
	}
	states := map[string]*v1alpha1.NodeState{}
	for _, o := range w.Pods {
		add(o)
		node := o.Spec.NodeName
		if states[node] == nil {
			states[node] = &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}
			add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
			add(states[node])
		}
		status := v1alpha1.EndpointStatus{ID: o.Namespace + "/" + o.Name, UID: o.UID}
		for _, ip := range o.Status.PodIPs {
			status.Addresses = append(status.Addresses, ip.IP)
		}
		states[node].Status.Endpoints = append(states[node].Status.Endpoints, status)
	}
	for _, o := range w.KubernetesPolicies {
		add(o)
	}
	for _, o := range w.NetworkPolicies {
		add(o)
	}
	for _, o := range w.GlobalPolicies {
		add(o)
	}
	for _, o := range w.Tiers {
		add(o)
	}
	for _, o := range w.NetworkSets {
		add(o)
	}
	for _, o := range w.GlobalNetworkSets {
		add(o)
	}
	for _, o := range w.EndpointSlices {
		add(o)
	}
	for _, o := range w.ClusterPolicies {
		add(o)
	}
	for _, o := range w.StagedNetworkPolicies {
		add(o)
	}
	for _, o := range w.StagedGlobalPolicies {
		add(o)
	}
	for _, o := range w.StagedKubernetesPolicies {
		add(o)
	}
	return out
}

// compile renders a world.
func compile(t fataler, w *oracle.World) *oracle.Rendered {
	t.Helper()
	c := render.New()
	for _, o := range objects(w) {
		if err := c.Set(o); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return rendered(c)
}

// rendered collects everything that a cluster says is to be written.
func rendered(c *render.Cluster) *oracle.Rendered {
	r := &oracle.Rendered{
		States: map[string]*v1alpha1.NodeState{}, Endpoints: map[string]*v1alpha1.NodeEndpoints{},
		Programs: map[string]*v1alpha1.PolicyProgram{}, Catalogs: map[string]*v1alpha1.SetCatalog{},
	}
	for _, key := range c.Dirty() {
		switch o := c.Desired(key).(type) {
		case *v1alpha1.NodeState:
			r.States[key.Name] = o
		case *v1alpha1.NodeEndpoints:
			r.Endpoints[key.Name] = o
		case *v1alpha1.PolicyProgram:
			r.Programs[key.Name] = o
		case *v1alpha1.SetCatalog:
			r.Catalogs[key.Name] = o
		}
	}
	return r
}

// disagreement returns a packet on which the users' objects and the rendered ones disagree.
func disagreement(w *oracle.World, r *oracle.Rendered, packets []oracle.Packet) (oracle.Packet, bool) {
	for _, p := range packets {
		if w.Allowed(p) != r.Allowed(p) {
			return p, true
		}
	}
	return oracle.Packet{}, false
}

func checkAgreement(t *testing.T, w *oracle.World, packets []oracle.Packet) {
	t.Helper()
	if p, found := disagreement(w, compile(t, w), packets); found {
		t.Errorf("packet %+v: allowed by the users' objects: %t, by the rendered ones: %t", p, w.Allowed(p), !w.Allowed(p))
	}
}
