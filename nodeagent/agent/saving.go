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
	jobs chan job   // of one element
	done chan error // of one element
	busy bool
	next *source.Report
	// again: what was told last did not come out.
	again bool
}

// job is to save what was changed before since, and then to tell, unless it is nil.
type job struct {
	since int
	tell  *source.Report
}

func newSaving() saving {
	return saving{jobs: make(chan job, 1), done: make(chan error, 1)}
}

// save waits for the disk until jobs is closed.
func (a *Agent) save() {
	for j := range a.saving.jobs {
		err := a.Addresses.Save(j.since)
		if err == nil && j.tell != nil {
			a.Source.Report(*j.tell)
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
	s.jobs <- job{since: a.Addresses.Mark(), tell: s.next}
	s.next = nil
}

// saved takes the goroutine's word.
func (a *Agent) saved(err error) {
	a.saving.busy = false
	if err != nil {
		a.undone(err)
	}
}

// undone: the disk did not take the newest changes of addresses, and so they are no more.
func (a *Agent) undone(err error) {
	a.Log.Error("which addresses are in use could not be written down, so what has changed is undone", "error", err)
	a.saving.again = true
	a.timers.addresses.within(addressRetry)
	if err := a.lookAtAddresses(); err != nil {
		a.Log.Error("addresses in use are not known", "error", err)
	}
}

// durable has what a CNI request changed before since brought to disk. The loop goes on meanwhile.
func (a *Agent) durable(ctx context.Context, since int) error {
	err := a.Addresses.Save(since)
	if err == nil {
		return nil
	}
	_ = a.call(ctx, func() { a.undone(err) }) // the next save would find out, too
	return fmt.Errorf("writing down which addresses are in use: %w", err)
}

// journalFailure is what others are told of the disk.
func (a *Agent) journalFailure() []v1alpha1.Failure {
	err := a.Addresses.Failing()
	if err == nil {
		return nil
	}
	return []v1alpha1.Failure{{Kind: kindJournal, Name: a.Node, Message: err.Error()}}
}
