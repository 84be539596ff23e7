package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
)

// noLimits is a kernel that takes no limits.
type noLimits struct{}

func (noLimits) Apply(_ context.Context, desired *tables.Bandwidth) error {
	var problems []error
	for name := range desired.All() {
		problems = append(problems, &tables.ItemError{Kind: tables.KindBandwidth, Name: name, Err: errors.New("no such queue")})
	}
	desired.Clean()
	return errors.Join(problems...)
}
func (noLimits) Resync()                  {}
func (noLimits) Changed() <-chan struct{} { return nil }
func (noLimits) Disturbances() int64      { return 0 }

// noPacketLimits is a kernel that takes no limits of packets.
type noPacketLimits struct{ noLimits }

func (noPacketLimits) Apply(_ context.Context, desired *tables.PacketLimitsTable) error {
	desired.Clean()
	return errors.New("no such expression")
}

// A pod whose limits can't be put into force starts all the same, with its policy; the status says what is wrong.
func TestLimitsThatFailKeepNoPodWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) { o.Bandwidth, o.PacketLimits = noLimits{}, noPacketLimits{} })
		state := l.state(1, []string{"gnp.a"}, "n/web")
		state.Spec.Endpoints[0].Bandwidth = &v1alpha1.Bandwidth{Ingress: &v1alpha1.BandwidthLimit{BitsPerSecond: 1000, BurstBits: 1000}}
		state.Spec.Endpoints[0].Packets = &v1alpha1.PacketLimits{Egress: &v1alpha1.PacketLimit{Connections: 1}}
		l.sync(state, l.program("gnp.a", 1))
		if _, err := l.agent.Add(t.Context(), addRequest("n/web", "uid-n/web", "c1")); err != nil {
			t.Errorf("ADD: %v", err)
		}
		if e, ok := l.policy.endpoint(render.InterfaceName("n/web")); !ok || len(e.Ingress) != 1 {
			t.Errorf("policy in the kernel: %+v", e)
		}
		pause(time.Minute)
		status := l.source.last(t).Status
		want := []v1alpha1.Failure{{Kind: "Bandwidth", Name: "n/web", Message: "no such queue"}, {Kind: "PacketLimits", Name: "all", Message: "no such expression"}}
		if diff := cmp.Diff(want, status.Failures); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		if status.ObservedGeneration != 1 {
			t.Errorf("observed generation %d, want 1", status.ObservedGeneration)
		}
		if n := l.policy.resynced(); n > 0 {
			t.Errorf("all of policy was read back %d times, for a failure that is none of its own", n)
		}
		l.stop()
	})
}
