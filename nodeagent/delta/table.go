// Package delta holds desired state that remembers what changed, so that making a kernel equal to it costs work in
// proportion to the change and not to the state.
package delta

import "iter"

// Table is a desired map. It keeps the keys whose value was set, replaced or deleted since the last Clean: the dirty
// keys. It is not safe for concurrent use.
type Table[K comparable, V any] struct {
	equal func(a, b V) bool
	items map[K]V
	dirty map[K]struct{}
}

// NewTable makes an empty table. equal tells whether two values are the same, in which case setting one over the other
// changes nothing.
func NewTable[K comparable, V any](equal func(a, b V) bool) *Table[K, V] {
	return &Table[K, V]{equal: equal, items: map[K]V{}, dirty: map[K]struct{}{}}
}

// Set makes value the desired one of key and tells whether that changed anything.
func (t *Table[K, V]) Set(key K, value V) bool {
	if old, ok := t.items[key]; ok && t.equal(old, value) {
		return false
	}
	t.items[key] = value
	t.dirty[key] = struct{}{}
	return true
}

// Delete removes key and tells whether it was there.
func (t *Table[K, V]) Delete(key K) bool {
	if _, ok := t.items[key]; !ok {
		return false
	}
	delete(t.items, key)
	t.dirty[key] = struct{}{}
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

// HasDirty tells whether anything changed since the last Clean.
func (t *Table[K, V]) HasDirty() bool { return len(t.dirty) > 0 }

// Clean forgets what changed: the kernel is equal to the table now.
func (t *Table[K, V]) Clean() { clear(t.dirty) }

// CleanKey forgets the change of one key.
func (t *Table[K, V]) CleanKey(key K) { delete(t.dirty, key) }

// MarkDirty counts key as changed, whether it is in the table or not.
func (t *Table[K, V]) MarkDirty(key K) { t.dirty[key] = struct{}{} }
