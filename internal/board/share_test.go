package board

import (
	"fmt"
	goruntime "runtime"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

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

// TestWhatSharesMemoryGoesByItsGeneration: the API server counts the changes of the operator's part, so a new status need not be compared, and
// what was written before or after what is on the board is told from it.
func TestWhatSharesMemoryGoesByItsGeneration(t *testing.T) {
	c := newCluster(t)
	seen := func(address string, uid types.UID, generation int64) *v1alpha1.NodeState {
		s := stateOf("n1", []string{address})
		s.UID, s.Generation, s.ResourceVersion = uid, generation, "7"
		return s
	}
	rendered := func(address string) *v1alpha1.NodeState {
		s := stateOf("n1", []string{address})
		c.put(s)
		return s
	}
	onBoard := rendered("10.0.0.1")
	for _, step := range []struct {
		what    string
		do      func()
		arrives *v1alpha1.NodeState
		shared  bool
	}{
		{"it is written", func() {}, seen("10.0.0.1", "u", 1), true},
		{"its status changes", func() { c.board.Written(seen("10.0.0.1", "u", 1), false) }, seen("10.0.0.1", "u", 1), true},
		{"the board goes on, and a status comes of before", func() { onBoard = rendered("10.0.0.2") }, seen("10.0.0.1", "u", 1), false},
		{"that is written", func() {}, seen("10.0.0.2", "u", 2), true},
		{"what was before comes late", func() { c.board.Written(seen("10.0.0.2", "u", 2), false) }, seen("10.0.0.1", "u", 1), false},
		{"somebody else changes it", func() {}, seen("10.0.0.3", "u", 3), false},
		{"another object of the name", func() {}, seen("10.0.0.3", "v", 2), false},
	} {
		step.do()
		c.board.Share(step.arrives)
		if shared := &onBoard.Spec.Endpoints[0] == &step.arrives.Spec.Endpoints[0]; shared != step.shared {
			t.Errorf("%s: shared: %t, want %t", step.what, shared, step.shared)
		}
	}
}

// TestWhatStaysKeepsNoFormerList: one pod of a node changes again and again; of the lists that the others came in nothing is kept.
func TestWhatStaysKeepsNoFormerList(t *testing.T) {
	c := newCluster(t)
	const lists = 20
	var collected atomic.Int32
	for i := range lists {
		state := stateOf("n1", []string{"a"}, []string{"b"}, []string{fmt.Sprint("c", i)})
		state.Generation, state.UID, state.ResourceVersion = int64(i+1), "u", fmt.Sprint(i+1)
		goruntime.AddCleanup(&state.Spec.Endpoints[0], func(struct{}) { collected.Add(1) }, struct{}{})
		c.put(state)
		c.board.Written(state, false)
	}
	for deadline := time.Now().Add(time.Minute); collected.Load() < lists-1; {
		goruntime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d lists of %d are kept", lists-collected.Load(), lists)
		}
		<-time.After(time.Millisecond)
	}
	goruntime.KeepAlive(c)
}
