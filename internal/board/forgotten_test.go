package board

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestHowLongAndHowMuchIsRememberedOfWhoGoesAway: a node that comes back is told only what it missed, unless it was away for long or has let too
// much go unacknowledged: then it is told everything. So what a node that listens no more costs is bounded.
func TestHowLongAndHowMuchIsRememberedOfWhoGoesAway(t *testing.T) {
	const pods = 1000
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
					o := endpoints("n2")
					for j := range pods {
						o.Spec.Endpoints = append(o.Spec.Endpoints, pod(fmt.Sprintf("ns/%d", j), "red", fmt.Sprintf("10.%d.%d.%d", i%250, j/250, j%250)))
					}
					c.put(o)
					f.take()
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
