package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// standalone runs a test with the agent of a host that is no node.
func standalone(t *testing.T, checkpoint *fakeCheckpoint, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, checkpoint, newFakeAddresses(), func(o *Options) { o.Standalone = true })
		test(t, l)
		l.stop()
	})
}

func (l *lab) guards(iface string) bool { _, ok := l.policy.host(iface); return ok }

// A host that no HostEndpoint names has no NodeState, and is free.
func TestStandaloneHostIsFreeWithoutHostEndpoints(t *testing.T) {
	standalone(t, newFakeCheckpoint(), func(t *testing.T, l *lab) {
		if err := l.agent.Ready(); err == nil {
			t.Error("ready before anything was received")
		}
		l.sync()
		if err := l.agent.Ready(); err != nil || l.source.count() > 0 {
			t.Errorf("without a NodeState: %v, %d reports", err, l.source.count())
		}
		l.set(l.program("gnp.a", 1))
		l.set(l.hostState(1, guarded("h1", "eth0")))
		pause(2 * time.Second)
		if status := l.source.last(t).Status; !l.guards("eth0") || status.ObservedGeneration != 1 {
			t.Errorf("with a host endpoint: in the kernel %t, status %+v", l.guards("eth0"), status)
		}
		reports := l.source.count()
		l.source.sink.Delete(source.NodeState, node, "1000")
		pause(time.Minute)
		if l.guards("eth0") || l.source.count() > reports {
			t.Errorf("after it has gone: in the kernel %t, %d reports more", l.guards("eth0"), l.source.count()-reports)
		}
		l.set(l.hostState(1, guarded("h1", "eth0")))
		pause(2 * time.Second)
		if status := l.source.last(t).Status; !l.guards("eth0") || status.ObservedGeneration != 1 || l.source.count() == reports {
			t.Errorf("when it is back: in the kernel %t, status %+v", l.guards("eth0"), status)
		}
	})
}

// The host endpoint went while no agent ran, and the checkpoint still has it.
func TestStandaloneHostIsFreedAfterARestart(t *testing.T) {
	checkpoint := newFakeCheckpoint()
	standalone(t, checkpoint, func(_ *testing.T, l *lab) { l.sync(l.hostState(1, guarded("h1", "eth0")), l.program("gnp.a", 1)) })
	standalone(t, checkpoint, func(t *testing.T, l *lab) {
		pause(time.Minute)
		if !l.guards("eth0") {
			t.Error("without an answer the host endpoint of the checkpoint is not in the kernel")
		}
		l.sync(l.program("gnp.a", 1))
		pause(time.Minute)
		if l.guards("eth0") {
			t.Error("the host endpoint is still in the kernel")
		}
	})
	standalone(t, checkpoint, func(t *testing.T, l *lab) {
		pause(time.Minute)
		if l.policy.count() > 0 {
			t.Error("the kernel was written by a checkpoint that has no NodeState")
		}
	})
}

func TestStandaloneHostHasNoRoutesToPods(t *testing.T) {
	standalone(t, newFakeCheckpoint(), func(t *testing.T, l *lab) {
		network := &v1alpha1.NodeNetwork{ObjectMeta: l.meta("worker2", 1), Spec: v1alpha1.NodeNetworkSpec{
			Addresses: []string{"192.168.0.2"}, Blocks: []string{"10.48.1.0/26"},
		}}
		l.sync(l.hostState(1, guarded("h1", "eth0")), l.program("gnp.a", 1), network)
		if _, ok := l.routes.routes[netip.MustParsePrefix("10.48.1.0/26")]; ok {
			t.Error("there is a route to another node's block")
		}
	})
}
