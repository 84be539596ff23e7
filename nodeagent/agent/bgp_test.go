package agent

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
func (deafBGP) Holding(context.Context) bool                      { return false }

// noLearned writes no routes.
type noLearned struct{}

func (noLearned) Apply(_ context.Context, desired *tables.LearnedRoutes) error {
	desired.Clean()
	return nil
}
func (noLearned) Resync()                  {}
func (noLearned) Changed() <-chan struct{} { return nil }
func (noLearned) Disturbances() int64      { return 0 }

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
