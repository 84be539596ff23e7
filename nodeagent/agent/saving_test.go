package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/addresses"
	"github.com/manul-net/manul/nodeagent/ipam"
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

// Nor does the checkpoint.
func TestASlowCheckpointDelaysNoPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil, "n/a"), l.program("gnp.a", 1))
		l.checkpoint.slow.Store(int64(time.Minute))
		pause(5 * time.Second) // it is being written
		began := time.Now()
		l.set(l.state(2, []string{"gnp.a"}, "n/a"))
		if e, ok := l.policy.endpoint(render.InterfaceName("n/a")); !ok || len(e.Ingress) != 1 || time.Since(began) != 0 {
			t.Errorf("after %s the kernel has %+v", time.Since(began), e)
		}
		pause(3 * time.Minute)
		if l.checkpoint.HasPending() || l.checkpoint.flushes != 2 {
			t.Errorf("in the end there were %d flushes, and something is not written: %t", l.checkpoint.flushes, l.checkpoint.HasPending())
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

// A status that waited for the disk is not told after a newer one.
func TestAnOlderStatusIsNotToldLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addresses := newFakeAddresses()
		l := newLab(t, newFakeCheckpoint(), addresses)
		defer l.stop()
		l.sync(l.state(1, nil), l.program("gnp.a", 1))
		addresses.setDisk(func() error { return errFull })
		l.set(l.state(2, nil, "n/a", "n/b"))
		addresses.setDisk(func() error { pause(5 * time.Second); return nil })
		l.set(l.state(3, nil, "n/a", "n/b", "n/c"))
		l.set(l.state(4, []string{"gnp.a"}, "n/a", "n/b", "n/c")) // it waits, and with it what the disk did to the last write
		pause(time.Minute)
		if r := l.source.last(t); len(r.Status.Failures) > 0 || r.Status.ObservedGeneration != 4 {
			t.Errorf("told in the end: generation %d, %+v", r.Status.ObservedGeneration, r.Status.Failures)
		}
	})
}

// unlucky are addresses of which somebody else's attempt to save a change fails at once: before whoever made the change goes on.
type unlucky struct {
	addresses.Given

	full, attach, detach, look atomic.Bool
}

func newUnlucky(t *testing.T) *unlucky {
	t.Helper()
	u := &unlucky{}
	var err error
	u.Given, err = addresses.Open(filepath.Join(t.TempDir(), "addresses.db"), ipam.Options{Around: func(write func() error) error {
		if u.full.Load() {
			return errFull
		}
		return write()
	}})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *unlucky) close(t *testing.T) {
	t.Helper()
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

func (u *unlucky) fails(now *atomic.Bool) {
	if now.Load() {
		u.full.Store(true)
		_ = u.Save(context.Background(), u.Mark())
		u.full.Store(false)
	}
}

func (u *unlucky) Attach(o owner, attachment string) error {
	defer u.fails(&u.attach)
	return u.Given.Attach(o, attachment)
}

func (u *unlucky) Detach(attachment string) error {
	defer u.fails(&u.detach)
	return u.Given.Detach(attachment)
}

func (u *unlucky) Leases() ([]v1alpha1.LeaseStatus, bool) {
	defer u.fails(&u.look)
	return u.Given.Leases()
}

// Whoever tries to save a change, and whenever: when it fails, nobody hears of the change.
func TestWhatOthersFailedToSaveIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnlucky(t)
		defer u.close(t)
		l := newLab(t, newFakeCheckpoint(), nil, func(o *Options) { o.Addresses = u })
		defer l.stop()
		l.sync(l.state(1, nil, "n/a"))
		u.attach.Store(true)
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); !errors.Is(err, errFull) {
			t.Errorf("ADD: %v", err)
		}
		u.attach.Store(false)
		if _, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1")); err != nil {
			t.Errorf("ADD: %v", err)
		}
		u.detach.Store(true)
		del := protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}}
		if err := l.agent.Del(t.Context(), del); !errors.Is(err, errFull) {
			t.Errorf("DEL: %v", err)
		}
		u.detach.Store(false)
		if err := l.agent.Del(t.Context(), del); err != nil {
			t.Errorf("DEL: %v", err)
		}
		u.look.Store(true)
		reports := l.source.count()
		l.set(l.state(2, nil, "n/a", "n/b"))
		for _, r := range l.source.since(reports) {
			if len(r.Status.Endpoints) > 1 {
				t.Errorf("told: %+v", r.Status.Endpoints)
			}
		}
		u.look.Store(false)
		pause(2 * addressRetry)
		if r := l.source.last(t); len(r.Status.Endpoints) != 2 || len(r.Status.Failures) > 0 {
			t.Errorf("told in the end: %+v, %+v", r.Status.Endpoints, r.Status.Failures)
		}
	})
}

// A new journal that the disk does not take knows the pods' addresses when it does.
func TestAdoptionThatIsNotSavedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnlucky(t)
		defer u.close(t)
		u.full.Store(true)
		l := newLab(t, newFakeCheckpoint(), nil, func(o *Options) { o.Addresses = u })
		defer l.stop()
		state := l.state(1, nil, "n/a", "n/b")
		state.Status.Conditions = []metav1.Condition{{Type: ConditionReady}}
		state.Status.Endpoints = []v1alpha1.EndpointStatus{{ID: "n/b", UID: "uid-n/b", Addresses: []string{"10.48.0.0"}}}
		l.sync(state)
		pause(5 * addressRetry)
		for _, r := range l.source.since(0) {
			if d := cmp.Diff(state.Status.Endpoints, r.Status.Endpoints); d != "" {
				t.Fatalf("told while nothing could be written (-want +got):\n%s", d)
			}
		}
		u.full.Store(false)
		pause(5 * addressRetry)
		if r := l.source.last(t); len(r.Status.Endpoints) != 2 || r.Status.Endpoints[1].Addresses[0] != "10.48.0.0" || len(r.Status.Failures) > 0 {
			t.Errorf("told in the end: %+v, %+v", r.Status.Endpoints, r.Status.Failures)
		}
	})
}

// While the disk neither takes a write nor refuses it, requests fail in their time with an error that tells the runtime to try again; when the disk goes
// on, they succeed, and the pod has the address that it was given first.
func TestADiskThatHangsHoldsUpNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan struct{})
		close(hung)
		var disk atomic.Pointer[chan struct{}]
		disk.Store(&hung)
		given, err := addresses.Open(filepath.Join(t.TempDir(), "addresses.db"), ipam.Options{Around: func(write func() error) error {
			<-*disk.Load()
			return write()
		}})
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t, newFakeCheckpoint(), nil, func(o *Options) { o.Addresses = given })
		defer func() {
			l.stop()
			if err := given.Close(); err != nil {
				t.Error(err)
			}
		}()
		l.sync(l.state(1, nil, "n/a"))
		goOn := make(chan struct{})
		disk.Store(&goOn)
		tryAgain := func(what string, began time.Time, within time.Duration, err error) {
			t.Helper()
			if e := (*protocol.Error)(nil); !errors.As(err, &e) || e.Code != protocol.CodeTryAgainLater || !strings.Contains(e.Error(), "disk") {
				t.Errorf("%s: %v", what, err)
			}
			if took := time.Since(began); took > within {
				t.Errorf("%s took %s", what, took)
			}
		}
		began := time.Now()
		_, err = l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c1"))
		tryAgain("ADD", began, 11*time.Second, err)
		began = time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("not done in 5 s"))
		defer cancel()
		del := protocol.DelRequest{Attachment: protocol.Attachment{ContainerID: "c1", IfName: "eth0"}}
		tryAgain("DEL", began, 5*time.Second, l.agent.Del(ctx, del))
		l.set(l.state(2, nil, "n/a", "n/b")) // the loop goes on
		close(goOn)
		if err := l.agent.Del(t.Context(), del); err != nil {
			t.Errorf("DEL when the disk goes on: %v", err)
		}
		result, err := l.agent.Add(t.Context(), addRequest("n/a", "uid-n/a", "c2"))
		if err != nil || result.Addresses[0].String() != "10.48.0.0" {
			t.Errorf("ADD when the disk goes on: %v, %v", result.Addresses, err)
		}
	})
}
