package agent

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// deafBGP is a speaker that can't be started.
type deafBGP struct{}

func (deafBGP) Apply(context.Context, *tables.BGP) error {
	return errors.New("starting the BGP speaker: permission denied")
}
func (deafBGP) Resync()                                           {}
func (deafBGP) Changed() <-chan struct{}                          { return nil }
func (deafBGP) Disturbances() int64                               { return 0 }
func (deafBGP) Learned(func(netip.Prefix, tables.BGPPaths))       {}
func (deafBGP) Sessions(context.Context) []tables.BGPSessionState { return nil }
func (deafBGP) Paths(context.Context) ([]tables.BGPPath, error)   { return nil, nil }
func (deafBGP) Holding(context.Context) bool                      { return false }

// talkingBGP has sessions.
type talkingBGP struct {
	deafBGP
	sessions []tables.BGPSessionState
}

func (talkingBGP) Apply(_ context.Context, desired *tables.BGP) error { desired.Clean(); return nil }

func (b talkingBGP) Sessions(context.Context) []tables.BGPSessionState {
	return b.sessions
}

// Of the sessions of a mesh, or of a route reflector's clients, those are listed that are not established, up to a bound; all are
// counted. Others are always listed.
func TestSessionsOfGroupsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sessions []tables.BGPSessionState
		add := func(group, name, address, state string) {
			sessions = append(sessions, tables.BGPSessionState{Group: group, Name: name, Address: netip.MustParseAddr(address), State: state})
		}
		for i := range 200 {
			address := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()
			state := "Established"
			if i%2 == 0 {
				state = "Active"
			}
			add("mesh", "mesh/n/"+address, address, state)
		}
		add("rr", "rr/192.0.3.1", "192.0.3.1", "Established")
		add("rr", "rr/2001:db8::1", "2001:db8::1", "Established")
		add("", "tor/192.0.2.255", "192.0.2.255", "Established")
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) { o.BGP, o.Learned = talkingBGP{sessions: sessions}, noLearned{} })
		l.sync(l.state(1, nil, "web"))
		pause(time.Minute)
		status := l.source.last(t).Status
		want := []v1alpha1.BGPGroupStatus{
			{Name: "mesh", Family: 4, Sessions: 200, Established: 100},
			{Name: "rr", Family: 4, Sessions: 1, Established: 1},
			{Name: "rr", Family: 6, Sessions: 1, Established: 1},
		}
		if diff := cmp.Diff(want, status.BGPGroups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		listed := status.BGPSessions
		if len(listed) != maxListed+1 || listed[len(listed)-1].Name != "tor/192.0.2.255" || listed[0].State != "Active" {
			t.Errorf("%d sessions are listed: %+v", len(listed), listed)
		}
		l.stop()
	})
}

// noLearned writes no routes.
type noLearned struct{}

func (noLearned) Apply(_ context.Context, desired *tables.LearnedRoutes) error {
	desired.Clean()
	return nil
}
func (noLearned) Resync()                   {}
func (noLearned) Changed() <-chan struct{}  { return nil }
func (noLearned) Disturbances() int64       { return 0 }
func (noLearned) InForce(netip.Prefix) bool { return false }

// A node whose BGP can't be started has its policy and its routes all the same, and says what is wrong.
func TestWithoutBGPTheNodeIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) { o.BGP, o.Learned = deafBGP{}, noLearned{} })
		l.sync(l.state(1, []string{"gnp.a"}, "web"), l.program("gnp.a", 1))
		pause(time.Minute)
		status := l.source.last(t).Status
		if status.ObservedGeneration != 1 || l.policy.count() == 0 {
			t.Errorf("observed generation %d; policy was applied %d times", status.ObservedGeneration, l.policy.count())
		}
		if len(status.Failures) != 1 || !strings.Contains(status.Failures[0].Message, "permission denied") {
			t.Errorf("failures: %v", status.Failures)
		}
		l.policy.mu.Lock()
		resyncs := l.policy.resyncs
		l.policy.mu.Unlock()
		if resyncs > 0 {
			t.Errorf("all of policy was read back %d times, for a failure that is none of its own", resyncs)
		}
		l.stop()
	})
}

// holdingBGP learns one route more each time that it is asked.
type holdingBGP struct {
	talkingBGP

	routes *byte
}

func (holdingBGP) Holding(context.Context) bool { return true }

func (b holdingBGP) Learned(each func(netip.Prefix, tables.BGPPaths)) {
	*b.routes++
	each(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, *b.routes, 0, 0}), 16), tables.BGPPaths{NextHops: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
}

// refusedLearned are learned routes of which the kernel refuses one.
type refusedLearned struct{ noLearned }

func (refusedLearned) Apply(_ context.Context, desired *tables.LearnedRoutes) error {
	desired.Clean()
	return &tables.ItemError{Kind: tables.KindLearnedRoute, Name: "10.0.0.0/8", Err: errors.New("there is one that is not BGP's")}
}

// A learned route that the kernel refuses stands in the status once, whatever is learned beside it.
func TestRefusedLearnedRouteIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) {
			o.BGP, o.Learned = holdingBGP{routes: new(byte)}, refusedLearned{}
		})
		l.sync(l.state(1, nil, "web"))
		pause(time.Minute)
		if f := l.source.last(t).Status.Failures; len(f) != 1 || f[0].Name != "10.0.0.0/8" {
			t.Errorf("%d failures: %v", len(f), f)
		}
		l.stop()
	})
}
