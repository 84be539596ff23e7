package agent

import (
	"context"
	"fmt"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/source"
)

// kindJournal is the kind of the failure to keep on disk which addresses are in use.
const kindJournal = "AddressJournal"

// saving is what the loop knows of the goroutine that waits for the disk in its stead: a disk that others keep busy takes tens of
// milliseconds, in which policy would not change. What others are told of addresses waits until it is on disk.
type saving struct {
	jobs chan *source.Report // of one element: to be told when all that was changed before is saved; nil: nothing is to be told
	done chan error          // of one element
	busy bool
	next *source.Report
	// failed: why the newest changes were undone; nil once a change was saved again.
	failed error
	// again: what was told last did not come out.
	again bool
}

func newSaving() saving {
	return saving{jobs: make(chan *source.Report, 1), done: make(chan error, 1)}
}

// save waits for the disk until jobs is closed.
func (a *Agent) save() {
	for r := range a.saving.jobs {
		err := a.Addresses.Save()
		if err == nil && r != nil {
			a.Source.Report(*r)
		}
		a.saving.done <- err
	}
}

// tell gives the source a status when what it says of addresses is on disk: at once, if it is there already.
func (a *Agent) tell(r source.Report) {
	s := &a.saving
	if !s.busy && !a.Addresses.Unsaved() {
		a.Source.Report(r)
		return
	}
	if s.next != nil {
		r.Urgent = r.Urgent || s.next.Urgent
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
	s.jobs <- s.next
	s.next = nil
}

// saved takes the goroutine's word.
func (a *Agent) saved(err error) {
	a.saving.busy = false
	if err != nil {
		a.undone(err)
		return
	}
	a.saving.failed = nil
}

// undone: the disk did not take the newest changes of addresses, and so they are no more.
func (a *Agent) undone(err error) {
	a.Log.Error("which addresses are in use could not be written down, so what has changed is undone", "error", err)
	a.saving.failed, a.saving.again = err, true
	a.timers.addresses.within(addressRetry)
	if err := a.lookAtAddresses(); err != nil {
		a.Log.Error("addresses in use are not known", "error", err)
	}
}

// durable has what a CNI request changed brought to disk. The loop goes on meanwhile.
func (a *Agent) durable(ctx context.Context) error {
	err := a.Addresses.Save()
	if err == nil {
		return nil
	}
	_ = a.call(ctx, func() { a.undone(err) }) // the next save would find out, too
	return fmt.Errorf("writing down which addresses are in use: %w", err)
}

// journalFailure is what others are told of the disk.
func (a *Agent) journalFailure() []v1alpha1.Failure {
	if a.saving.failed == nil {
		return nil
	}
	return []v1alpha1.Failure{{Kind: kindJournal, Name: a.Node, Message: a.saving.failed.Error()}}
}
