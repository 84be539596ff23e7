package stream

import (
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/board"
	"github.com/manul-net/manul/internal/render"
)

// TestWhoWaitsForItsTurnTakesLaterNewsAlong: streams that wait for their turn keep nobody from the board, and what comes meanwhile goes out
// with what they were woken for.
func TestWhoWaitsForItsTurnTakesLaterNewsAlong(t *testing.T) {
	const agents = 20
	s, agent := serving(t, 10)
	var all []*reading
	for i := range agents {
		r := agent(fmt.Sprintf("n%d", i))
		r.everything(t)
		all = append(all, r)
	}
	put := func(network string) {
		t.Helper()
		key := render.Key{Kind: render.KindNodeNetwork, Name: network}
		n := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: network}, Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.0.2.9"}}}
		if err := s.Board.Put([]board.Change{{Key: key, Object: n}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	s.turns.taking.Lock()
	put("n1")
	put("n2")
	s.turns.taking.Unlock()
	for _, r := range all {
		if got := r.read(t); len(got.Changes) != 2 {
			t.Errorf("node %s is told of %d networks in its first message, want of both that changed: %+v", r.node, len(got.Changes), got)
		}
	}
}

// TestWordsOfNodesKeepNobodyFromTheCompiler: what many nodes say at once is taken in one after the other, and who brings an object waits
// for one of them.
func TestWordsOfNodesKeepNobodyFromTheCompiler(t *testing.T) {
	const agents = 20
	s, _ := serving(t, 0)
	s.turns.hearing.Lock()
	var speaking sync.WaitGroup
	for i := range agents {
		speaking.Go(func() {
			if err := s.hear(fmt.Sprintf("n%d", i), &v1alpha1.NodeStateStatus{Sequence: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	if err := s.World.Set(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	if heard := len(s.World.Unwritten()); heard != 0 {
		t.Errorf("%d nodes were heard although it was nobody's turn", heard)
	}
	s.turns.hearing.Unlock()
	speaking.Wait()
	if heard := len(s.World.Unwritten()); heard != agents {
		t.Errorf("%d nodes were heard, want %d", heard, agents)
	}
}
