// Package labelindex knows which labelled items which selectors match, and tells what changes when an item or a selector
// does.
//
// The cost of a change is in proportion to its candidates: a selector that demands something of a label
// (key == value, key in {...}, has(key), key contains ...) is looked at only for items with that label, and an item only by
// selectors that demand a label which it has, or demand none. Matches are not stored; they follow from labels and selectors.
package labelindex

import (
	"iter"
	"maps"

	"github.com/manul-net/manul/internal/selector"
)

// Index holds items with labels, and selectors, each under an ID of its own. It is not safe for concurrent use.
type Index[Item, Sel comparable] struct {
	onMatch   func(sel Sel, item Item, matches bool)
	items     map[Item]*labelSet
	sets      labelSets
	selectors map[Sel]registered
	labels    map[string]*label[Item, Sel]
	// unbound are the selectors that demand no particular label.
	unbound map[Sel]struct{}
	// latest is what was found for the latest new item, until selectors change. Lists bring the replicas of one workload one
	// after the other, and their labels are the same.
	latest struct {
		labels  *labelSet
		matches []Sel
	}
}

// registered is a selector and the requirement under which it is found: the zero Requirement demands no label.
type registered struct {
	selector    *selector.Selector
	requirement selector.Requirement
	// never: the selector matches no item, and is not registered anywhere.
	never bool
}

// label is all that concerns one label key.
type label[Item, Sel comparable] struct {
	values map[string]*value[Item, Sel]
	// items is the number of items with the key.
	items int
	// selectors that demand the key with whatever value.
	selectors map[Sel]struct{}
}

// value is all that concerns one key with one value.
type value[Item, Sel comparable] struct {
	items     map[Item]struct{}
	selectors map[Sel]struct{}
}

// New makes an empty index. onMatch is called once for each match that starts (true) or stops (false), within the call
// that caused it and in no particular order; it must not call the index.
func New[Item, Sel comparable](onMatch func(sel Sel, item Item, matches bool)) *Index[Item, Sel] {
	return &Index[Item, Sel]{
		onMatch:   onMatch,
		items:     map[Item]*labelSet{},
		sets:      newLabelSets(),
		selectors: map[Sel]registered{},
		labels:    map[string]*label[Item, Sel]{},
		unbound:   map[Sel]struct{}{},
	}
}

// SetItem adds an item or gives it other labels. The index keeps labels; they must not change afterwards.
func (x *Index[Item, Sel]) SetItem(id Item, labels map[string]string) {
	had, existed := x.items[id]
	if !existed {
		x.addItem(id, x.sets.take(labels))
		return
	}
	if maps.Equal(had.labels, labels) {
		return
	}
	has := x.sets.take(labels)
	before, after := had.labels, has.labels
	for sel := range x.candidateSelectors(after) {
		s := x.selectors[sel].selector
		if was, is := s.Match(before), s.Match(after); is != was {
			x.onMatch(sel, id, is)
		}
	}
	// Selectors that are candidates by the old labels alone cannot match any more.
	for sel := range x.candidateSelectors(before) {
		r := x.selectors[sel]
		if !r.meets(after) && r.selector.Match(before) {
			x.onMatch(sel, id, false)
		}
	}
	for key, v := range before {
		if now, ok := after[key]; !ok || now != v {
			x.removeItemLabel(id, key, v)
		}
	}
	for key, v := range after {
		if old, ok := before[key]; !ok || old != v {
			x.addItemLabel(id, key, v)
		}
	}
	x.items[id] = has
	x.release(had)
}

func (x *Index[Item, Sel]) release(s *labelSet) {
	x.sets.release(s)
	if x.latest.labels == s && s.items == 0 {
		x.latest.labels = nil
	}
}

// addItem adds an item that is not there.
func (x *Index[Item, Sel]) addItem(id Item, set *labelSet) {
	if x.latest.labels != set {
		x.latest.labels = set
		x.latest.matches = nil
		for sel := range x.candidateSelectors(set.labels) {
			if x.selectors[sel].selector.Match(set.labels) {
				x.latest.matches = append(x.latest.matches, sel)
			}
		}
	}
	for _, sel := range x.latest.matches {
		x.onMatch(sel, id, true)
	}
	for key, v := range set.labels {
		x.addItemLabel(id, key, v)
	}
	x.items[id] = set
}

// DeleteItem removes an item and its matches. One that is not there is no error.
func (x *Index[Item, Sel]) DeleteItem(id Item) {
	set, ok := x.items[id]
	if !ok {
		return
	}
	for sel := range x.Selectors(id) {
		x.onMatch(sel, id, false)
	}
	for key, v := range set.labels {
		x.removeItemLabel(id, key, v)
	}
	delete(x.items, id)
	x.release(set)
}

// SetSelector adds a selector or replaces it. global() matches no item.
func (x *Index[Item, Sel]) SetSelector(id Sel, s *selector.Selector) {
	old, existed := x.selectors[id]
	if existed && old.selector.String() == s.String() {
		return
	}
	x.latest.labels = nil
	replacement := registered{selector: s, requirement: x.choose(s), never: s.IsNone() || s.IsGlobal()}
	for item, labels := range x.candidateItems(replacement) {
		was := existed && old.selector.Match(labels)
		if is := s.Match(labels); is != was {
			x.onMatch(id, item, is)
		}
	}
	if existed {
		for item, labels := range x.candidateItems(old) {
			if !replacement.meets(labels) && old.selector.Match(labels) {
				x.onMatch(id, item, false)
			}
		}
		x.unregister(id, old)
	}
	x.selectors[id] = replacement
	x.register(id, replacement)
}

// DeleteSelector removes a selector and its matches. One that is not there is no error.
func (x *Index[Item, Sel]) DeleteSelector(id Sel) {
	x.latest.labels = nil
	old, ok := x.selectors[id]
	if !ok {
		return
	}
	for item := range x.Items(id) {
		x.onMatch(id, item, false)
	}
	x.unregister(id, old)
	delete(x.selectors, id)
}

// Items iterates over the items that a selector matches, in no particular order.
func (x *Index[Item, Sel]) Items(id Sel) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		r, ok := x.selectors[id]
		if !ok {
			return
		}
		for item, labels := range x.candidateItems(r) {
			if r.selector.Match(labels) && !yield(item) {
				return
			}
		}
	}
}

// Selectors iterates over the selectors that match an item, in no particular order.
func (x *Index[Item, Sel]) Selectors(id Item) iter.Seq[Sel] {
	return func(yield func(Sel) bool) {
		set, ok := x.items[id]
		if !ok {
			return
		}
		for sel := range x.candidateSelectors(set.labels) {
			if x.selectors[sel].selector.Match(set.labels) && !yield(sel) {
				return
			}
		}
	}
}

// Len is the number of items and of selectors.
func (x *Index[Item, Sel]) Len() (items, selectors int) { return len(x.items), len(x.selectors) }
