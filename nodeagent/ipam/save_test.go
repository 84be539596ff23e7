package ipam

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// What several changed goes to disk in one write, and who finds nothing to write has nothing to wait for.
func TestChangesAreSavedTogether(t *testing.T) {
	h := newHarness(t, 0, crashBlock())
	h.ok(h.Save(context.Background(), h.Mark()))
	writes := 0
	h.journal.around = func(write func() error) error { writes++; return write() }
	h.expect(pod("a"), Request{}, "10.48.0.0")
	h.expect(pod("b"), Request{}, "10.48.0.1")
	h.ok(h.Attach(pod("a"), "1"))
	if writes != 0 || !h.Unsaved() {
		t.Errorf("%d writes before anybody saved, unsaved: %t", writes, h.Unsaved())
	}
	h.ok(h.Save(context.Background(), h.Mark()))
	h.ok(h.Save(context.Background(), h.Mark()))
	if writes != 1 || h.Unsaved() {
		t.Errorf("%d writes, unsaved: %t; want 1, false", writes, h.Unsaved())
	}
	h.reopen(crashBlock())
	h.expect(pod("b"), Request{}, "10.48.0.1")
	if got := h.AttachmentsOf(pod("a")); len(got) != 1 {
		t.Errorf("a has attachments %v", got)
	}
}

// A change that comes while others are written waits for the next write, and its Save for it.
func TestSavedWhileOthersAreWritten(t *testing.T) {
	h := newHarness(t, 0, crashBlock())
	h.ok(h.Save(context.Background(), h.Mark()))
	begun, goOn, writes := make(chan struct{}), make(chan struct{}), 0
	h.journal.around = func(write func() error) error {
		if writes++; writes == 1 {
			close(begun)
			<-goOn
		}
		return write()
	}
	h.expect(pod("a"), Request{}, "10.48.0.0")
	first, second := make(chan error), make(chan error)
	go func() { first <- h.Save(context.Background(), h.Mark()) }()
	<-begun
	h.expect(pod("b"), Request{}, "10.48.0.1") // nobody who changes something waits for the disk
	go func() { second <- h.Save(context.Background(), h.Mark()) }()
	close(goOn)
	h.ok(<-first)
	h.ok(<-second)
	if writes != 2 || h.Unsaved() {
		t.Errorf("%d writes, unsaved: %t; want 2, false", writes, h.Unsaved())
	}
}

// What the disk does not take is undone, with all that was changed since, and everybody who waits for it is told. The next change works.
func TestDiskFails(t *testing.T) {
	h := newHarness(t, 0, crashBlock())
	h.expect(pod("before"), Request{}, "10.48.0.0")
	h.ok(h.Save(context.Background(), h.Mark()))
	full := errors.New("no space left on device")
	begun, goOn, fails := make(chan struct{}), make(chan struct{}), true
	h.journal.around = func(write func() error) error {
		if !fails {
			return write()
		}
		close(begun)
		<-goOn
		return full
	}
	h.expect(pod("a"), Request{}, "10.48.0.1")
	h.ok(h.Attach(pod("before"), "1"))
	mark, saved := h.Mark(), make(chan error)
	go func() { saved <- h.Save(context.Background(), mark) }()
	<-begun
	h.expect(pod("b"), Request{}, "10.48.0.2")
	later := h.Mark()
	fails = false
	close(goOn)
	if err := <-saved; !errors.Is(err, full) {
		t.Errorf("saving what the disk did not take: %v", err)
	}
	for what, mark := range map[string]Mark{"what somebody else tried to save": mark, "what came meanwhile": later} {
		if err := h.Save(context.Background(), mark); !errors.Is(err, full) {
			t.Errorf("saving %s: %v", what, err)
		}
	}
	if got := h.Allocations(); len(got) != 1 || got[0].Owner != pod("before") || len(got[0].Attachments) != 0 {
		t.Errorf("after the failure there are %v", got)
	}
	if err := h.Failing(); !errors.Is(err, full) {
		t.Errorf("failing: %v", err)
	}
	h.expect(pod("b"), Request{}, "10.48.0.1")
	h.ok(h.Save(context.Background(), h.Mark()))
	h.ok(h.Failing())
	h.reopen(crashBlock())
	h.expect(pod("b"), Request{}, "10.48.0.1")
}

// An owner whose end was undone is not freed along with others, before anybody has said again who is live.
func TestWhoComesBackIsLive(t *testing.T) {
	h := newHarness(t, 0, crashBlock())
	h.expect(pod("a"), Request{}, "10.48.0.0")
	h.expect(pod("b"), Request{}, "10.48.0.1")
	h.ok(h.Attach(pod("b"), "1"))
	h.ok(h.SetLive([]string{pod("a").UID, pod("b").UID}))
	h.ok(h.Save(context.Background(), h.Mark()))
	full := errors.New("no space left on device")
	h.journal.around = func(func() error) error { return full }
	if dropped, err := h.Drop(pod("a")); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	if err := h.Save(context.Background(), h.Mark()); !errors.Is(err, full) {
		t.Errorf("saving: %v", err)
	}
	h.journal.around = nil
	if _, err := h.Detach("1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Lookup(pod("a")); !ok {
		t.Error("a lost its address")
	}
	h.ok(h.SetLive([]string{pod("b").UID}))
	if _, ok := h.Lookup(pod("a")); ok {
		t.Error("a has its address though it is gone")
	}
}

// A disk that neither takes a write nor refuses it holds up nobody for longer than they have time, and one write alone hangs in it. What was
// changed is on disk when it goes on.
func TestADiskThatHangs(t *testing.T) {
	h := newHarness(t, 0, crashBlock())
	h.ok(h.Save(context.Background(), h.Mark()))
	var writes atomic.Int32
	begun, goOn := make(chan struct{}), make(chan struct{})
	h.journal.around = func(write func() error) error {
		if writes.Add(1) == 1 {
			close(begun)
			<-goOn
		}
		return write()
	}
	h.expect(pod("a"), Request{}, "10.48.0.0")
	late := errors.New("the request's time is up")
	first, giveUp := context.WithCancelCause(t.Context())
	saved := make(chan error)
	go func() { saved <- h.Save(first, h.Mark()) }()
	<-begun
	giveUp(late)
	if err := <-saved; !errors.Is(err, late) {
		t.Errorf("who writes: %v", err)
	}
	h.expect(pod("b"), Request{}, "10.48.0.1")
	for range 100 {
		if err := h.Save(first, h.Mark()); !errors.Is(err, late) {
			t.Fatalf("who waits for the one that writes: %v", err)
		}
	}
	if n := writes.Load(); n != 1 || !h.Unsaved() {
		t.Errorf("%d writes hang, unsaved: %t", n, h.Unsaved())
	}
	close(goOn)
	h.ok(h.Save(t.Context(), h.Mark()))
	if n := writes.Load(); n != 2 || h.Unsaved() {
		t.Errorf("%d writes, unsaved: %t; want 2, false", n, h.Unsaved())
	}
	h.reopen(crashBlock())
	h.expect(pod("a"), Request{}, "10.48.0.0")
	h.expect(pod("b"), Request{}, "10.48.0.1")
}
