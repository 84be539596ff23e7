package source

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

// told gives what a recorder was told so far.
func (r *recorder) told() int { return len(r.events) }

func TestGateOfTheAPIsObjects(t *testing.T) {
	r, opened := newRecorder(), 0
	g := newGate(r, func() { opened++ }, func(*v1alpha1.NodeState) {})
	for i, kind := range Kinds() {
		if r.told() > 0 || opened > 0 {
			t.Fatalf("something came through before all kinds were there: %d of them", i)
		}
		g.Replace(kind, nil, "1")
	}
	if r.told() != len(Kinds()) || opened != 1 {
		t.Fatalf("with all kinds there, %d of %d came through; opened %d times", r.told(), len(Kinds()), opened)
	}
	g.close() // the stream begins
	select {
	case <-g.done:
	default:
		t.Error("who follows the API's objects is not told that the gate is closed")
	}
	g.Set(NodeState, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: testNode}})
	if r.told() != len(Kinds()) {
		t.Error("something came through a closed gate")
	}
	g.close() // by who followed them
}
