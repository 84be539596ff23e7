package rendered

import (
	"testing"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/manul-net/manul/internal/render"
)

func TestPace(t *testing.T) {
	start := time.Now()
	p := &pace{}
	a, b := render.Key{Kind: render.KindNodeEndpoints, Name: "a"}, render.Key{Kind: render.KindNodeEndpoints, Name: "b"}
	for _, step := range []struct {
		what  string
		after time.Duration
		wrote bool
		of    render.Key
		wait  time.Duration
	}{
		{"what was never written does not wait", 0, false, a, 0},
		{"what was written waits a second", 0, true, a, time.Second},
		{"another object does not", 0, false, b, 0},
		{"part of that is over", 300 * time.Millisecond, false, a, 700 * time.Millisecond},
		{"all of it is", time.Second, false, a, 0},
		{"it is written again", 1500 * time.Millisecond, true, a, time.Second},
		{"another is written much later", time.Minute, true, b, time.Second},
	} {
		now := start.Add(step.after)
		if step.wrote {
			p.note(step.of, now)
		}
		if got := p.wait(step.of, now); got != step.wait {
			t.Errorf("%s: %s, want %s", step.what, got, step.wait)
		}
	}
	if len(p.wrote) != 1 {
		t.Errorf("%d objects are remembered, want the one that was written within the last second", len(p.wrote))
	}
}

// TestWhatSomebodyWaitsForIsWrittenFirst looks at the order in which keys come out of the controller's queue.
func TestWhatSomebodyWaitsForIsWrittenFirst(t *testing.T) {
	keys := []render.Key{
		{Kind: render.KindSetCatalog, Name: "00"},
		{Kind: render.KindPolicyProgram, Name: "p"},
		{Kind: render.KindNodeEndpoints, Name: "n"},
		{Kind: render.KindNodeNetwork, Name: "n"},
		{Kind: render.KindNodeState, Name: "n"},
	}
	for what, tc := range map[string]struct {
		sparing bool
		want    []render.Kind
	}{
		"an agent follows the API's objects": {false, []render.Kind{render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindNodeState}},
		"all agents follow the stream":       {true, []render.Kind{render.KindPolicyProgram, render.KindNodeNetwork, render.KindNodeState, render.KindSetCatalog, render.KindNodeEndpoints}},
	} {
		t.Run(what, func(t *testing.T) {
			q := priorityqueue.New[render.Key](what, func(o *priorityqueue.Opts[render.Key]) {
				o.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[render.Key](firstRetry, lastRetry)
			})
			defer q.ShutDown()
			add(q, keys, tc.sparing)
			for i, want := range tc.want {
				key, _ := q.Get()
				q.Done(key)
				if key.Kind != want {
					t.Errorf("number %d is a %s, want a %s", i, key.Kind, want)
				}
			}
		})
	}
}
