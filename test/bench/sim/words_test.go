package main

import (
	"slices"
	"testing"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestEachAgentWritesAtATimeOfItsOwn: what agents say goes to the API some time after each has said it first, in its newest form.
func TestEachAgentWritesAtATimeOfItsOwn(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	w := newWords()
	says := func(ms int, node string, sequence int64) {
		w.put(node, &v1alpha1.NodeStateStatus{Sequence: sequence}, at(ms+300))
	}
	written := func(ms int, next time.Time, want ...word) {
		t.Helper()
		due, later := w.take(at(ms))
		same := func(got *word, want word) bool {
			return got.node == want.node && got.status.Sequence == want.status.Sequence
		}
		if !slices.EqualFunc(due, want, same) || !later.Equal(next) {
			t.Errorf("after %d ms %d words are written and the next is due at %s, want %d and %s", ms, len(due), later.Sub(start), len(want), next.Sub(start))
		}
	}
	said := func(node string, sequence int64) word {
		return word{node: node, status: &v1alpha1.NodeStateStatus{Sequence: sequence}}
	}
	written(0, time.Time{})
	says(0, "a", 1)
	says(10, "b", 1)
	says(20, "a", 2) // goes along with the first
	written(299, at(300))
	written(300, at(310), said("a", 2))
	says(305, "a", 3)
	written(310, at(605), said("b", 1))
	w.put("c", &v1alpha1.NodeStateStatus{Sequence: 1}, at(400)) // has waited elsewhere
	written(400, at(605), said("c", 1))
	written(700, time.Time{}, said("a", 3))
}
