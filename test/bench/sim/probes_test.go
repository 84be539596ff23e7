package main

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/test/hollow"
)

// TestWhatCountsAsNewsOfAChange: a node is told of a pod for several reasons, and only one of them is that the pod changed.
func TestWhatCountsAsNewsOfAChange(t *testing.T) {
	const pod, local = "default/web", "default/own-pod"
	endpoint := func(id string) wire.Change {
		return wire.Change{Kind: string(render.KindNodeEndpoints), Name: "b", ID: id, Item: []byte{1}}
	}
	state := func(id string) wire.Change {
		return wire.Change{Kind: string(render.KindNodeState), Name: "a", ID: id, Item: []byte{1}}
	}
	set := wire.Change{Kind: string(render.KindSetCatalog), Name: "sets-1", ID: pod, Item: []byte{1}}
	news := func(changes ...wire.Change) wire.Down { return wire.Down{Changes: changes} }
	everything := func(changes ...wire.Change) wire.Down { return wire.Down{Reset: true, Changes: changes} }
	for _, c := range []struct {
		what     string
		messages []wire.Down // a second apart
		other    []int       // seconds after the change at which another node is found to have been told
		own      []int       // the same for the pod's own node
	}{
		{"it is told of the pod", []wire.Down{news(endpoint(pod))}, []int{1}, nil},
		{"it is told again: the first time counts", []wire.Down{news(endpoint(pod)), news(endpoint(pod))}, []int{1}, nil},
		{"it is told of another pod", []wire.Down{news(endpoint("default/other"))}, nil, nil},
		{"it is told of a set that happens to be called so", []wire.Down{news(set)}, nil, nil},
		{"it is the pod's own node", []wire.Down{news(state(pod))}, nil, []int{1}},
		{"it is the pod's own node, and has a policy about it", []wire.Down{news(state(pod), endpoint(pod))}, []int{1}, []int{1}},
		{"a pod of its own changed, so that it learns of this one", []wire.Down{news(endpoint(pod), state(local))}, nil, nil},
		{"the same, and later it is told again, when the former identity is dropped", []wire.Down{news(state(local), endpoint(pod)), {}, news(endpoint(pod))}, nil, nil},
		{"it was told, and then a pod of its own changed", []wire.Down{news(endpoint(pod)), news(state(local), endpoint(pod))}, []int{1}, nil},
		{"it begins anew", []wire.Down{everything(endpoint(pod), state(pod))}, nil, nil},
		{"it begins anew, and later it is told again, when the former identity is dropped", []wire.Down{everything(endpoint(pod)), news(endpoint(pod))}, nil, nil},
	} {
		a := &agents{probes: probes{open: map[string]*probe{}}}
		start := time.Now()
		if err := a.Watch(Probe{What: relabelled, Pod: pod}, nil); err != nil {
			t.Fatal(err)
		}
		if err := a.Begun(Begun{Pod: pod, At: start.UnixNano()}, nil); err != nil {
			t.Fatal(err)
		}
		for i, m := range c.messages {
			a.probes.told("a", &hollow.Message{Down: m, At: start.Add(time.Duration(i+1) * time.Second)})
		}
		seconds := func(at []int64) (out []int) {
			for _, x := range at {
				out = append(out, int(time.Duration(x-start.UnixNano())/time.Second))
			}
			return out
		}
		found := a.probes.open[pod]
		if other := seconds(slices.Collect(maps.Values(found.other))); !slices.Equal(other, c.other) {
			t.Errorf("%s: found to have been told after %v s, want %v", c.what, other, c.other)
		}
		if own := seconds(found.own); !slices.Equal(own, c.own) {
			t.Errorf("%s: the pod's own node found to have been told after %v s, want %v", c.what, own, c.own)
		}
	}
}
