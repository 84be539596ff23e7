package ipam

import (
	"fmt"
	"maps"
)

// batch is changes that are in memory, and go to disk together.
type batch struct {
	change

	// done, err: how it went. They belong to whoever saves.
	done bool
	err  error
}

// Save returns when all that was changed before it was called is on disk. What several have changed by then goes there in one write, so it
// costs less to change and to save later than to do each change alone. If the disk fails, none of it is on disk or all of it is, which can't be
// known: memory is read anew from it, and what was changed since is undone.
func (a *Allocator) Save() error {
	a.mu.Lock()
	b := a.next
	if b == nil {
		b = a.writing
	}
	broken := a.broken
	a.mu.Unlock()
	if b == nil {
		return broken
	}
	a.saving.Lock()
	defer a.saving.Unlock()
	if !b.done {
		a.write(b)
	}
	return b.err
}

// Unsaved tells whether there are changes that are not on disk yet.
func (a *Allocator) Unsaved() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next != nil || a.writing != nil
}

// write brings the next batch to disk.
func (a *Allocator) write(b *batch) {
	a.mu.Lock()
	a.next, a.writing = nil, b
	a.mu.Unlock()
	err := a.journal.write(b.change)

	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing, b.done, b.err = nil, true, err
	if err == nil {
		return
	}
	if later := a.next; later != nil { // it rests on what is undone now
		a.next, later.done, later.err = nil, true, err
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
