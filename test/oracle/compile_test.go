package oracle_test

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/oracle"
)

// objects of a world, with what the nodes say of addresses.
func objects(w *oracle.World) []runtime.Object {
	out := w.Objects()
	for _, n := range w.Nodes {
		state := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}
		for _, pod := range w.Pods {
			if pod.Spec.NodeName != n.Name || pod.Spec.HostNetwork {
				continue
			}
			status := v1alpha1.EndpointStatus{ID: pod.Namespace + "/" + pod.Name, UID: pod.UID}
			for _, ip := range pod.Status.PodIPs {
				status.Addresses = append(status.Addresses, ip.IP)
			}
			state.Status.Endpoints = append(state.Status.Endpoints, status)
		}
		out = append(out, state)
	}
	return out
}

// compile renders a world.
func compile(w *oracle.World) (*oracle.Rendered, error) {
	c := render.New()
	for _, o := range objects(w) {
		if err := c.Set(o); err != nil {
			return nil, err
		}
	}
	return rendered(c), nil
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
