package ipam

import (
	"fmt"
	"maps"
)

// batch is changes that are in memory, and go to disk together.
type batch struct {
	change

	done bool // belongs to whoever saves
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
func (a *Allocator) Save(since Mark) error {
	a.mu.Lock()
	b := a.next
	if b == nil {
		b = a.writing
	}
	a.mu.Unlock()
	if b != nil {
		a.saveBatch(b)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil || a.failures == since {
		return a.broken
	}
	return a.failure
}

func (a *Allocator) saveBatch(b *batch) {
	a.saving.Lock()
	defer a.saving.Unlock()
	if !b.done {
		a.write(b)
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
	a.writing, a.failing, b.done = nil, err, true
	if err == nil {
		return
	}
	a.failures, a.failure = a.failures+1, err
	if later := a.next; later != nil { // it rests on what is undone now
		a.next, later.done = nil, true
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
