package live

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

func TestStreamed(t *testing.T) {
	w := New()
	w.Open()
	state := func(node string, status v1alpha1.NodeStateStatus) *v1alpha1.NodeState {
		return &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node, Generation: 1}, Status: status}
	}
	by := func(carrier v1alpha1.Carrier, sequence int64) v1alpha1.NodeStateStatus {
		return v1alpha1.NodeStateStatus{ObservedGeneration: 1, Sequence: sequence, Carrier: carrier}
	}
	said := func(node string, status v1alpha1.NodeStateStatus) func() error {
		return func() error { return w.Report(node, &status) }
	}
	written := func(node string, status v1alpha1.NodeStateStatus) func() error {
		return func() error { return w.Set(state(node, status)) }
	}
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"nobody has spoken", written("a", v1alpha1.NodeStateStatus{}), false},
		{"one node is on the stream", written("a", by(v1alpha1.CarrierStream, 1)), true},
		{"a node comes whose agent has not spoken", written("b", v1alpha1.NodeStateStatus{}), true},
		{"that one follows the API's objects", written("b", by(v1alpha1.CarrierAPI, 1)), false},
		{"it goes to the stream, and says so there", said("b", by(v1alpha1.CarrierStream, 2)), true},
		{"its older word is written", written("b", by(v1alpha1.CarrierAPI, 1)), true},
		{"an agent that says nothing of carriers", written("c", v1alpha1.NodeStateStatus{ObservedGeneration: 1}), false},
		{"its node goes", func() error { return w.Delete(state("c", v1alpha1.NodeStateStatus{})) }, true},
		{"a node falls back", said("a", by(v1alpha1.CarrierAPI, 3)), false},
		{"that node goes", func() error { return w.Delete(state("a", v1alpha1.NodeStateStatus{})) }, true},
		{"and the last", func() error { return w.Delete(state("b", v1alpha1.NodeStateStatus{})) }, false},
	} {
		must(t, step.do())
		if got := w.Streamed(); got != step.want {
			t.Fatalf("%s: all agents follow the stream: %t", step.what, got)
		}
	}
}
