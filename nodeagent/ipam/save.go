package ipam

import (
	"context"
	"fmt"
	"maps"
)

// batch is changes that are in memory, and go to disk together.
type batch struct {
	change

	// done is closed when it is on disk or undone. Whoever closes it holds mu.
	done chan struct{}
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

func (b *batch) isDone() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// Mark is a point in an allocator's life: how often the disk had failed by then.
type Mark int

// Mark is to be taken before a change, by whoever saves it later: others may save it before, in vain.
func (a *Allocator) Mark() Mark {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failures
}

// Save returns when all that was changed before it was called is on disk; an error tells that the disk has failed since the mark was taken. What
// several have changed goes there in one write, so that it costs little to save each change. If the disk fails, none of it is there or all of it
// is, which can't be known: memory is read anew from it, and what was changed since is undone.
//
// When ctx ends first, its cause comes back. The write goes on, and whether what was changed stays is known to the next Save.
func (a *Allocator) Save(ctx context.Context, since Mark) error {
	a.mu.Lock()
	b := a.next
	if b == nil {
		b = a.writing
	}
	a.mu.Unlock()
	if b != nil {
		if err := a.saveBatch(ctx, b); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil || a.failures == since {
		return a.broken
	}
	return a.failure
}

// saveBatch waits until b is on disk or undone. Who has no more than some time leaves the writing to another goroutine, of which there is one at
// most: a disk may neither take a write nor refuse it for as long as it likes.
func (a *Allocator) saveBatch(ctx context.Context, b *batch) error {
	write := func() {
		defer func() { <-a.saving }()
		if !b.isDone() {
			a.write(b)
		}
	}
	select {
	case a.saving <- struct{}{}:
		if ctx.Done() == nil {
			write()
			return nil
		}
		go write()
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the disk has not taken it: %w", context.Cause(ctx))
	}
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the disk has not taken it: %w", context.Cause(ctx))
	}
}

// Unsaved tells whether there are changes that are not on disk yet.
func (a *Allocator) Unsaved() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next != nil || a.writing != nil
}

// Failing is why the newest write failed; nil: it did not.
func (a *Allocator) Failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failing
}

// write brings the next batch to disk.
func (a *Allocator) write(b *batch) {
	a.mu.Lock()
	a.next, a.writing = nil, b
	a.mu.Unlock()
	err := a.journal.write(b.change)

	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing, a.failing = nil, err
	close(b.done)
	if err == nil {
		return
	}
	a.failures, a.failure = a.failures+1, err
	if later := a.next; later != nil { // it rests on what is undone now
		a.next = nil
		close(later.done)
	}
	if reload := a.reload(); reload != nil {
		a.broken = fmt.Errorf("the journal failed before: %w", reload)
	}
}

// merge adds a later change.
func (c *change) merge(later change) {
	add(&c.owners, later.owners)
	add(&c.freed, later.freed)
	add(&c.stances, later.stances)
	c.known = c.known || later.known
}

func add[K comparable, V any](to *map[K]V, later map[K]V) {
	if *to == nil {
		*to = make(map[K]V, len(later))
	}
	maps.Copy(*to, later)
}
