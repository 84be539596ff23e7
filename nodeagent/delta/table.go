// Package delta holds desired state that remembers what changed, so that making a kernel equal to it costs work in
// proportion to the change and not to the state.
package delta

import (
	"iter"
	"maps"
)

// keepDirty is the number of dirty keys up to which Clean keeps the memory for the next ones.
const keepDirty = 1024

// Table is a desired map. It keeps the keys whose value was set, replaced or deleted since the last Clean: the dirty
// keys. It is not safe for concurrent use.
type Table[K comparable, V any] struct {
	equal func(a, b V) bool
	items map[K]V
	// most is how many items there were at most since items was made.
	most int
	// dirty tells of each changed key whether it was in the table at the last Clean.
	dirty map[K]bool
}

// NewTable makes an empty table. equal tells whether two values are the same, in which case setting one over the other
// changes nothing.
func NewTable[K comparable, V any](equal func(a, b V) bool) *Table[K, V] {
	return &Table[K, V]{equal: equal, items: map[K]V{}, dirty: map[K]bool{}}
}

// Set makes value the desired one of key and tells whether that changed anything.
func (t *Table[K, V]) Set(key K, value V) bool {
	old, had := t.items[key]
	if had && t.equal(old, value) {
		return false
	}
	t.items[key] = value
	t.most = max(t.most, len(t.items))
	if _, marked := t.dirty[key]; !marked {
		t.dirty[key] = had
	}
	return true
}

// Delete removes key and tells whether it was there. A key that came since the last Clean and goes again is no change.
func (t *Table[K, V]) Delete(key K) bool {
	if _, ok := t.items[key]; !ok {
		return false
	}
	delete(t.items, key)
	if had, marked := t.dirty[key]; marked && !had {
		delete(t.dirty, key)
	} else {
		t.dirty[key] = true
	}
	return true
}

// Get returns the desired value of key.
func (t *Table[K, V]) Get(key K) (V, bool) {
	v, ok := t.items[key]
	return v, ok
}

// Len is the number of desired items.
func (t *Table[K, V]) Len() int { return len(t.items) }

// All iterates over the desired items in no particular order.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range t.items {
			if !yield(k, v) {
				return
			}
		}
	}
}

// Dirty iterates over the keys that changed since the last Clean, in no particular order. Get tells whether such a
// key has a value now or is to be removed.
func (t *Table[K, V]) Dirty() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range t.dirty {
			if !yield(k) {
				return
			}
		}
	}
}

// Had tells of a dirty key whether it was in the table at the last Clean, that is, whether the kernel has it.
func (t *Table[K, V]) Had(key K) bool { return t.dirty[key] }

// HasDirty tells whether anything changed since the last Clean.
func (t *Table[K, V]) HasDirty() bool { return len(t.dirty) > 0 }

// Clean forgets what changed: the kernel is equal to the table now.
func (t *Table[K, V]) Clean() {
	t.shrink()
	if len(t.dirty) > keepDirty {
		t.dirty = map[K]bool{} // a cleared map keeps the memory of its greatest size
		return
	}
	clear(t.dirty)
}

// shrink gives back the memory of a table that has become small: a map keeps that of its greatest size. It costs work in proportion to what was
// deleted since.
func (t *Table[K, V]) shrink() {
	const part = 4
	if t.most <= keepDirty || len(t.items) > t.most/part {
		return
	}
	items := make(map[K]V, len(t.items))
	maps.Copy(items, t.items)
	t.items, t.most = items, len(items)
}

// CleanKey forgets the change of one key.
func (t *Table[K, V]) CleanKey(key K) { delete(t.dirty, key) }

// MarkDirty counts key as changed, whether it is in the table or not, and as one that the kernel may have.
func (t *Table[K, V]) MarkDirty(key K) { t.dirty[key] = true }
