package agent

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/render"
)

// While the disk takes its time, policy changes all the same. Nobody hears of an address, and no pod gets one, before it is on disk.
func TestASlowDiskDelaysNoPolicy(t *testing.T) {
	const slow = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		addresses := newFakeAddresses()
		l := newLab(t, newFakeCheckpoint(), addresses)
		defer l.stop()
		l.sync(l.state(1, nil), l.program("gnp.a", 1), l.program("gnp.b", 1))
		addresses.setDisk(func() error { pause(slow); return nil })
		reports, began := l.source.count(), time.Now()
		l.set(l.state(2, []string{"gnp.a"}, "n/a"))
		l.set(l.state(3, []string{"gnp.a", "gnp.b"}, "n/a"))
		if e, ok := l.policy.endpoint(render.InterfaceName("n/a")); !ok || len(e.Ingress) != 1 || len(e.Ingress[0].Programs) != 2 || time.Since(began) != 0 {
			t.Errorf("after %s the kernel has %+v", time.Since(began), e)
		}
		if got := l.source.count(); got != reports {
			t.Errorf("%d reports before the address is on disk", got-reports)
		}
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != slow {
			t.Errorf("ADD took %s, want the disk's time", took)
		}
		pause(2 * slow)
		if r := l.source.last(t); len(r.Status.Endpoints) != 1 || r.Status.ObservedGeneration != 3 {
			t.Errorf("told in the end: %+v", r)
		}
	})
}

// What the disk does not take fails, says so, and is tried again.
func TestADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addresses := newFakeAddresses()
		l := newLab(t, newFakeCheckpoint(), addresses)
		defer l.stop()
		l.sync(l.state(1, nil))
		isJournal := func(f v1alpha1.Failure) bool {
			return f.Kind == kindJournal && strings.Contains(f.Message, "no space left")
		}
		addresses.setDisk(func() error { return errFull })
		l.set(l.state(2, nil, "n/a"))
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("ADD: %v, want the disk's error", err)
		}
		if err := l.agent.Del(t.Context(), protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}}); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("DEL: %v, want the disk's error", err)
		}
		pause(3 * addressRetry)
		if r := l.source.last(t); !slices.ContainsFunc(r.Status.Failures, isJournal) {
			t.Errorf("told while the disk fails: %+v", r.Status.Failures)
		}
		addresses.setDisk(nil)
		pause(3 * addressRetry)
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c2")); err != nil {
			t.Errorf("ADD when there is room again: %v", err)
		}
		pause(3 * addressRetry)
		if r := l.source.last(t); slices.ContainsFunc(r.Status.Failures, isJournal) || len(r.Status.Endpoints) != 1 {
			t.Errorf("told in the end: %+v", r.Status)
		}
	})
}
