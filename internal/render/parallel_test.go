package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/test/bench/clusters"
)

// TestAnyNumberOfWorkersRendersTheSame: at a cold start, and of what an operator that starts anew finds in the API, where some objects
// are not what they should be.
func TestAnyNumberOfWorkersRendersTheSame(t *testing.T) {
	shape := clusters.Shape{Nodes: 40, Pods: 1200, Policies: 300, Namespaces: 10, Seed: 1}
	start := func(workers int) (*Cluster, []Key, []runtime.Object) {
		c := New()
		c.workers = workers
		clusters.New(shape).Objects(func(o runtime.Object) {
			if err := c.Set(o); err != nil {
				t.Fatal(err)
			}
		})
		keys := c.Dirty()
		return c, keys, c.Contents(keys)
	}
	text := func(keys []Key, objects []runtime.Object) []string {
		var out []string
		for i, o := range objects {
			raw, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %s", keys[i], raw))
		}
		return out
	}
	_, keys, objects := start(1)
	want := text(keys, objects)
	var spoiled []Key
	for i := 0; i < len(keys); i += 7 {
		spoiled = append(spoiled, keys[i])
	}
	for _, workers := range []int{2, 3, 16} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			c, keys, objects := start(workers)
			if diff := cmp.Diff(want, text(keys, objects)); diff != "" {
				t.Errorf("a cold start renders otherwise than with one worker (-one +many):\n%s", diff)
			}
			for i, o := range objects {
				o := o.DeepCopyObject()
				if slices.Contains(spoiled, keys[i]) {
					spoil(t, o)
				}
				if state, ok := o.(*v1alpha1.NodeState); ok {
					state.Status = c.nodes[state.Name].state.Status // what the agent said
				}
				o.(metav1.Object).SetResourceVersion(fmt.Sprint(i + 1))
				if err := c.Set(o); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(spoiled, c.Dirty()); diff != "" {
				t.Errorf("found wrong in the API (-want +got):\n%s", diff)
			}
		})
	}
}

// spoil makes an object another than it should be.
func spoil(t *testing.T, o runtime.Object) {
	t.Helper()
	switch o := o.(type) {
	case *v1alpha1.NodeState:
		o.Spec.Endpoints = o.Spec.Endpoints[1:]
	case *v1alpha1.NodeEndpoints:
		o.Spec.Count++
	case *v1alpha1.NodeNetwork:
		o.Spec.Addresses = nil
	case *v1alpha1.PolicyProgram:
		o.Spec.Policy.Name += "x"
	case *v1alpha1.SetCatalog:
		o.Spec.Count++
	default:
		t.Fatalf("%T is no rendered object", o)
	}
}
