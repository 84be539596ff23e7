package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/source"
)

// kindJournal is the kind of the failure to keep on disk which addresses are in use.
const kindJournal = "AddressJournal"

// saving is what the loop knows of the goroutine that waits for the disk in its stead: a disk that others keep busy takes tens of
// milliseconds, in which policy would not change. What others are told of addresses waits until it is on disk.
type saving struct {
	jobs chan job      // of one element
	done chan error    // of one element
	news chan struct{} // of one element: how the disk does has changed, as a CNI request found out
	busy bool
	// since is the mark at which the step began. What the step changes, and all that it knows of addresses, is saved and not undone when a
	// Save since then succeeds.
	since int
	next  *source.Report
	// again: what was told last did not come out.
	again bool
}

// job is to save what was changed, and then to tell, unless it is nil.
type job struct {
	since int
	tell  *source.Report
}

func newSaving() saving {
	return saving{jobs: make(chan job, 1), done: make(chan error, 1), news: make(chan struct{}, 1)}
}

// save waits for the disk until jobs is closed.
func (a *Agent) save(ctx context.Context) {
	for j := range a.saving.jobs {
		err := a.Addresses.Save(ctx, j.since)
		if err == nil && j.tell != nil {
			a.Source.Report(*j.tell)
		}
		a.saving.done <- err
	}
}

// tell gives the source a status when what it says of addresses is on disk: at once, if it is there already.
func (a *Agent) tell(r source.Report) {
	s := &a.saving
	if s.next != nil {
		r.Urgent = r.Urgent || s.next.Urgent
	}
	// Asked in this order: all was on disk before it was found that nothing was undone.
	if !s.busy && !a.Addresses.Unsaved() && a.Addresses.Mark() == s.since {
		s.next = nil
		a.Source.Report(r)
		return
	}
	s.next = &r
}

// startSaving has the goroutine bring to disk what is not there, and tell what waits for that.
func (a *Agent) startSaving() {
	s := &a.saving
	if s.busy || s.next == nil && !a.Addresses.Unsaved() {
		return
	}
	s.busy = true
	s.jobs <- job{since: s.since, tell: s.next}
	s.next = nil
}

// saved takes the goroutine's word.
func (a *Agent) saved(err error) {
	a.saving.busy = false
	a.saving.again = a.saving.again || err != nil
}

// heedDisk sees to it that what the disk did not take is not in the tables either, and that no status is told that rests on it.
func (a *Agent) heedDisk() {
	since := a.Addresses.Mark()
	if since == a.saving.since {
		return
	}
	s := &a.saving
	if s.next != nil {
		a.pending.urgent = a.pending.urgent || s.next.Urgent
	}
	s.since, s.again, s.next = since, true, nil
	a.Log.Error("which addresses are in use could not be written down, so what has changed is undone", "error", a.Addresses.Failing())
	a.timers.addresses.within(addressRetry)
	if err := a.lookAtAddresses(); err != nil {
		a.Log.Error("addresses in use are not known", "error", err)
	}
}

// durable has what a CNI request changed since the mark brought to disk, while ctx lasts. The loop goes on meanwhile. After a time that was
// too short the change may be on disk or not, as after an answer that was lost: the runtime follows an ADD that failed with a DEL, and repeats
// a DEL.
func (a *Agent) durable(ctx context.Context, since int) error {
	failing := a.Addresses.Failing() != nil
	err := a.Addresses.Save(ctx, since)
	if failing || err != nil {
		select {
		case a.saving.news <- struct{}{}:
		default:
		}
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return protocol.Errorf(protocol.CodeTryAgainLater, "writing down which addresses are in use: %v", err)
	}
	if err != nil {
		return fmt.Errorf("writing down which addresses are in use: %w", err)
	}
	return nil
}

// doDurably is do, with what f changed of addresses on disk.
func (a *Agent) doDurably(ctx context.Context, f func() error) error {
	since := 0
	if err := a.do(ctx, func() error { since = a.Addresses.Mark(); return f() }); err != nil {
		return err
	}
	return a.durable(ctx, since)
}

// journalFailure is what others are told of the disk.
func (a *Agent) journalFailure() []v1alpha1.Failure {
	err := a.Addresses.Failing()
	if err == nil {
		return nil
	}
	return []v1alpha1.Failure{{Kind: kindJournal, Name: a.Node, Message: err.Error()}}
}
