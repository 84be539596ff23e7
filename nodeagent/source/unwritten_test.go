package source

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
)

// TestWhatOfPodsIsNotWrittenYet: which pods a node has when it falls back to the API's objects, after the stream told it of a and c beside
// generation 4 of its state.
func TestWhatOfPodsIsNotWrittenYet(t *testing.T) {
	type pods map[string]types.UID
	for name, tc := range map[string]struct {
		uid        types.UID
		generation int64
		written    pods
		want       pods
	}{
		"a pod is not written yet":                        {"u", 4, pods{"a": "1"}, pods{"a": "1", "c": "3"}},
		"an earlier pod of the name is written":           {"u", 4, pods{"a": "1", "c": "2"}, pods{"a": "1", "c": "3"}},
		"one that is gone is still there":                 {"u", 4, pods{"a": "1", "b": "2", "c": "3"}, pods{"a": "1", "b": "2", "c": "3"}},
		"an API server is behind":                         {"u", 3, pods{}, pods{"a": "1", "c": "3"}},
		"the operator has written since: its word counts": {"u", 5, pods{"a": "1"}, pods{"a": "1"}},
		"the object is another by now":                    {"v", 1, pods{}, pods{}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAssembler(testNode)
			down := &wire.Down{Cursor: 1, Reset: true, State: &wire.State{UID: "u", Generation: 4, Version: 7}}
			for id, spec := range map[string]any{
				"": v1alpha1.NodeStateSpec{}, "a": v1alpha1.Endpoint{ID: "a", UID: "1"}, "c": v1alpha1.Endpoint{ID: "c", UID: "3"},
			} {
				item, err := wire.Codec{}.Marshal(spec)
				if err != nil {
					t.Fatal(err)
				}
				down.Changes = append(down.Changes, wire.Change{Kind: string(NodeState), Name: testNode, ID: id, Item: item})
			}
			if _, err := a.take(down, dropped{}); err != nil {
				t.Fatal(err)
			}
			o := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: testNode, UID: tc.uid, Generation: tc.generation}}
			for id, uid := range tc.written {
				o.Spec.Endpoints = append(o.Spec.Endpoints, v1alpha1.Endpoint{ID: id, UID: uid})
			}
			a.withUnwritten(o)
			var has, want []string
			for i := range o.Spec.Endpoints {
				has = append(has, o.Spec.Endpoints[i].ID+" "+string(o.Spec.Endpoints[i].UID))
			}
			for id, uid := range tc.want {
				want = append(want, id+" "+string(uid))
			}
			slices.Sort(has)
			slices.Sort(want)
			if !slices.Equal(has, want) {
				t.Errorf("the node has %v, want %v", has, want)
			}
		})
	}
}
