package routes

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/nodeagent/tables"
)

func openLearned(t *testing.T, n *node) *Learned {
	t.Helper()
	var l *Learned
	n.Must("opening the driver", func() (err error) {
		l, err = NewLearned(LearnedOptions{})
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func over(metric uint32, hops ...string) tables.LearnedRoute {
	r := tables.LearnedRoute{Metric: metric}
	for _, h := range hops {
		r.NextHops = append(r.NextHops, netip.MustParseAddr(h))
	}
	return r
}

// learnedRoutes lists the learned routes, with their next hops and metrics.
func learnedRoutes(t *testing.T, n *node) []string {
	t.Helper()
	l := openLearned(t, n)
	if err := l.list(); err != nil {
		t.Fatal(err)
	}
	var out []string
	for p, m := range l.have {
		line := p.String()
		for _, h := range m.hops {
			line += " " + h.gateway.String()
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// A learned route leads over those of its next hops that can be reached, by the gateway to them where they are on no network
// of the node; without any there is none.
func TestLearnedRoutes(t *testing.T) {
	n := newNode(t)
	n.Route("203.0.113.0/24", nextHop4, "eth0")
	l, want := openLearned(t, n), tables.NewLearnedRoutes()
	apply := func(expected ...string) {
		t.Helper()
		if err := l.Apply(t.Context(), want); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(expected, learnedRoutes(t, n)); diff != "" {
			t.Errorf("learned routes (-want +got):\n%s", diff)
		}
	}
	const destination = "198.51.100.0/24"
	set := func(r tables.LearnedRoute) { want.Routes.Set(prefix(destination), r) }
	set(over(100, nextHop4, otherHop4))
	apply(destination + " " + nextHop4 + " " + otherHop4)
	set(over(200, otherHop4))
	apply(destination + " " + otherHop4)
	set(over(200, "203.0.113.9"))
	apply(destination + " " + nextHop4)
	set(over(200, "100.64.0.1", otherHop4))
	apply(destination + " " + otherHop4)
	set(over(200, "100.64.0.1"))
	apply()
	n.Route("100.64.0.0/10", nextHop4, "eth0")
	apply(destination + " " + nextHop4)
	want.SetIgnored([]string{"eth*"})
	apply()
	want.SetIgnored(nil)
	apply(destination + " " + nextHop4)

	t.Run("restart", func(t *testing.T) {
		l, want = openLearned(t, n), tables.NewLearnedRoutes()
		want.SetKeep(true)
		apply(destination + " " + nextHop4)
		want.Routes.Set(prefix("10.99.0.0/16"), over(100, nextHop4))
		apply("10.99.0.0/16 "+nextHop4, destination+" "+nextHop4)
		want.SetKeep(false)
		apply("10.99.0.0/16 " + nextHop4)
		want.Routes.Delete(prefix("10.99.0.0/16"))
		apply()
	})
	t.Run("another's", func(t *testing.T) {
		other := &netlink.Route{Dst: ipNet(destination), Gw: netip.MustParseAddr(nextHop4).AsSlice(), Priority: 100, Protocol: 4}
		if err := n.RouteAdd(other); err != nil {
			t.Fatal(err)
		}
		l, want = openLearned(t, n), tables.NewLearnedRoutes()
		set(over(100, otherHop4))
		if err := l.Apply(t.Context(), want); err == nil {
			t.Error("the route of another program was replaced")
		}
		if got := learnedRoutes(t, n); got != nil {
			t.Errorf("learned routes: %v", got)
		}
	})
}

// What other programs do to the ways to next hops is noticed.
func TestWaysToNextHops(t *testing.T) {
	n := newNode(t)
	l, want := openLearned(t, n), tables.NewLearnedRoutes()
	want.Routes.Set(prefix("198.51.100.0/24"), over(100, nextHop4))
	if err := l.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	until := func(expected ...string) {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			select {
			case <-l.Changed():
			case <-time.After(time.Second):
			}
			if err := l.Apply(t.Context(), want); err != nil {
				t.Log(err)
			}
			if slices.Equal(learnedRoutes(t, n), expected) {
				return
			}
		}
		t.Fatalf("learned routes: got %v, want %v", learnedRoutes(t, n), expected)
	}
	if err := n.LinkSetDown(n.Link("eth0")); err != nil {
		t.Fatal(err)
	}
	until()
	n.Up("eth0")
	until("198.51.100.0/24 " + nextHop4)
}

// Routers tell of the network that they share with the node as well. The node's own way there stays the only one, even where learned routes have the lower
// metric: else the way to the router would be the router, and no route over it could be changed any more.
func TestSharedNetworkIsNotLearned(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct{ shared, part, hop, destination, all string }{
		{"192.0.2.0/24", "192.0.2.2/32", nextHop4, "198.51.100.0/24", "192.0.0.0/8"},
		{"2001:db8::/64", "2001:db8::2/128", "2001:db8::2", "2001:db8:f::/48", "2001::/16"},
	} {
		l, want := openLearned(t, n), tables.NewLearnedRoutes()
		for _, p := range []string{tc.shared, tc.part, tc.destination, tc.all} {
			want.Routes.Set(prefix(p), over(20, tc.hop))
		}
		apply := func() {
			t.Helper()
			if err := l.Apply(t.Context(), want); err != nil {
				t.Error(err)
			}
			expected := slices.Sorted(slices.Values([]string{tc.destination + " " + tc.hop, tc.all + " " + tc.hop}))
			if diff := cmp.Diff(expected, learnedRoutes(t, n)); diff != "" {
				t.Errorf("learned routes (-want +got):\n%s", diff)
			}
			if len(l.waiting) > 0 {
				t.Errorf("these wait for a way that is there: %v", l.waiting)
			}
		}
		apply()
		want.Routes.Set(prefix(tc.destination), over(30, tc.hop))
		apply()
		for _, p := range []string{tc.shared, tc.part, tc.destination, tc.all} {
			want.Routes.Delete(prefix(p))
		}
		if err := l.Apply(t.Context(), want); err != nil {
			t.Error(err)
		}
	}
}
