package board

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestWhatTheAPIHasSharesMemoryWithTheBoard where it is the same, and nothing else does.
func TestWhatTheAPIHasSharesMemoryWithTheBoard(t *testing.T) {
	c := newCluster(t)
	kinds := func(address string) []runtime.Object {
		return []runtime.Object{
			stateOf("n1", []string{address}), endpoints("n1", pod("ns/a", "red", address)), network("n1", address),
			program("p", address), catalog("sets-aa", set("aa", address)),
		}
	}
	// shared tells whether two objects of a kind have one list.
	shared := func(a, b runtime.Object) bool {
		switch a := a.(type) {
		case *v1alpha1.NodeState:
			return &a.Spec.Endpoints[0] == &b.(*v1alpha1.NodeState).Spec.Endpoints[0]
		case *v1alpha1.NodeEndpoints:
			return &a.Spec.Endpoints[0] == &b.(*v1alpha1.NodeEndpoints).Spec.Endpoints[0]
		case *v1alpha1.NodeNetwork:
			return &a.Spec.Addresses[0] == &b.(*v1alpha1.NodeNetwork).Spec.Addresses[0]
		case *v1alpha1.PolicyProgram:
			return &a.Spec.Ingress[0] == &b.(*v1alpha1.PolicyProgram).Spec.Ingress[0]
		case *v1alpha1.SetCatalog:
			return &a.Spec.Sets[0] == &b.(*v1alpha1.SetCatalog).Spec.Sets[0]
		}
		return false
	}
	onBoard, same, other := kinds("10.0.0.1"), kinds("10.0.0.1"), kinds("10.0.0.2")
	for _, early := range kinds("10.0.0.1") {
		c.board.Share(early) // nothing is on the board yet
	}
	c.put(onBoard...)
	for i := range onBoard {
		c.board.Share(same[i])
		c.board.Share(other[i])
		if !shared(onBoard[i], same[i]) {
			t.Errorf("%T: what is the same is there twice", same[i])
		}
		if shared(onBoard[i], other[i]) {
			t.Errorf("%T: what is different is shared", other[i])
		}
	}
	c.board.Share(&v1alpha1.NodeState{})
}
