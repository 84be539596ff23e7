package board

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// TestHowLongAndHowMuchIsRememberedOfWhoGoesAway: a node that comes back is told only what it missed, unless it was away for long or has let too
// much go unacknowledged: then it is told everything. So what a node that listens no more costs is bounded.
func TestHowLongAndHowMuchIsRememberedOfWhoGoesAway(t *testing.T) {
	const pods = 1000
	forms := []*v1alpha1.NodeEndpoints{endpoints("n2"), endpoints("n2")}
	for i, o := range forms {
		for j := range pods {
			o.Spec.Endpoints = append(o.Spec.Endpoints, pod(fmt.Sprintf("ns/%d", j), "red", fmt.Sprintf("10.%d.%d.%d", i, j/250, j%250)))
		}
	}
	for _, tc := range []struct {
		what    string
		away    time.Duration
		batches int // each with all pods, of which the node acknowledges none
		resumed bool
	}{
		{"it comes back at once", 0, 1, true},
		{"it comes back in time", retention - time.Second, 1, true},
		{"it comes back too late", retention + time.Second, 1, false},
		{"it has not acknowledged more than is remembered", 0, maxSent/pods + 1, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.put(catalog("sets-aa", set("aa", "red")), program("p", "aa"), stateOf("n1", []string{"p"}))
				f := c.follow("n1")
				f.sub.Acknowledge(f.cursor)
				epoch, cursor := f.epoch, f.cursor
				for i := range tc.batches {
					c.put(forms[i%len(forms)])
					f.sub.Take(f.attachment, Also{})
					if f.sub.sentItems > maxSent {
						t.Fatalf("%d items are remembered", f.sub.sentItems)
					}
				}
				forgotten := false
				f.sub.Leave(f.attachment, func() { forgotten = true })
				time.Sleep(tc.away) //nolint:forbidigo // the time is synctest's
				synctest.Wait()
				if late := tc.away > retention; forgotten != late || (c.board.Nodes() == 0) != late {
					t.Errorf("forgotten: %t, want %t; there are %d subscriptions", forgotten, late, c.board.Nodes())
				}
				sub, attachment, resumed := c.board.Subscribe("n1", epoch, cursor)
				if resumed != tc.resumed {
					t.Errorf("resumed: %t, want %t", resumed, tc.resumed)
				}
				if batch, current := sub.Take(attachment, Also{}); !current || batch.Reset == tc.resumed || len(batch.Items) < pods {
					t.Errorf("told everything: %t; %d items", batch.Reset, len(batch.Items))
				}
				sub.Leave(attachment, func() {})
				time.Sleep(retention + time.Second) //nolint:forbidigo // the time is synctest's
			})
		})
	}
}

// TestNothingIsKeptOfSubscriptionsThatAreOver: while an object is not written, its nodes may come anew many times. In the end the one that is there
// is asked for its word.
func TestNothingIsKeptOfSubscriptionsThatAreOver(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red", "blue")), program("p", "aa"), stateOf("n1", []string{"p"}))
	key := render.Key{Kind: render.KindNodeEndpoints, Name: "n2"}
	for i := range 10 {
		f := c.follow("n1")
		c.put(endpoints("n2", pod("ns/a", []string{"red", "blue"}[i%2], "10.0.0.1")))
		f.take()
	}
	if n := len(c.board.objects[key].moved); n != 1 {
		t.Errorf("%d nodes are remembered, want 1", n)
	}
	f := c.follow("n1")
	f.take()
	c.board.Written(in(endpoints("n2", pod("ns/a", "blue", "10.0.0.1")), "7", 1), false)
	if f.take(); !slices.Contains(f.asked, render.KindNodeEndpoints) {
		t.Error("the node was not asked for its word")
	}
	if n := len(c.board.objects[key].moved); n != 0 {
		t.Errorf("%d nodes are remembered after it was written", n)
	}
}
