// Package labelindex knows which labelled items which selectors match, and tells what changes when an item or a selector
// does.
//
// The cost of a change is in proportion to its candidates: a selector that demands something of a label
// (key == value, key in {...}, has(key), key contains ...) is looked at only for items with that label, and an item only by
// selectors that demand a label which it has, or demand none. Items with the same labels are looked at together. Matches are not stored;
// they follow from labels and selectors.
package labelindex

import (
	"iter"
	"maps"

	"github.com/manul-net/manul/internal/selector"
)

// Index holds items with labels, and selectors, each under an ID of its own. It is not safe for concurrent use.
type Index[Item, Sel comparable] struct {
	onMatch   func(sel Sel, item Item, matches bool)
	items     map[Item]*labelSet[Item]
	sets      labelSets[Item]
	selectors map[Sel]registered
	labels    map[string]*label[Item, Sel]
	// unbound are the selectors that demand no particular label.
	unbound map[Sel]struct{}
	// latest is what was found for the latest item, until selectors change. Lists bring the replicas of one workload one
	// after the other, and their labels are the same.
	latest struct {
		labels  *labelSet[Item]
		matches []Sel
	}
	placing placing[Sel]
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
	// sets is the number of different labels with the key.
	sets int
	// selectors that demand the key with whatever value.
	selectors map[Sel]struct{}
}

// value is all that concerns one key with one value.
type value[Item, Sel comparable] struct {
	sets      map[*labelSet[Item]]struct{}
	selectors map[Sel]struct{}
}

// New makes an empty index. onMatch is called once for each match that starts (true) or stops (false), within the call
// that caused it and in no particular order; it must not call the index.
func New[Item, Sel comparable](onMatch func(sel Sel, item Item, matches bool)) *Index[Item, Sel] {
	return &Index[Item, Sel]{
		onMatch:   onMatch,
		items:     map[Item]*labelSet[Item]{},
		sets:      newLabelSets[Item](),
		selectors: map[Sel]registered{},
		labels:    map[string]*label[Item, Sel]{},
		unbound:   map[Sel]struct{}{},
	}
}

// SetItem adds an item or gives it other labels. The index keeps labels; they must not change afterwards.
func (x *Index[Item, Sel]) SetItem(id Item, labels map[string]string) {
	had := x.items[id]
	if had == nil {
		has := x.join(id, labels)
		for _, sel := range x.matching(has) {
			x.onMatch(sel, id, true)
		}
		return
	}
	if maps.Equal(had.labels, labels) {
		return
	}
	before, after := had.labels, selector.Map(labels)
	x.leave(id, had)
	x.join(id, labels)
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
}

// DeleteItem removes an item and its matches. One that is not there is no error.
func (x *Index[Item, Sel]) DeleteItem(id Item) {
	set := x.items[id]
	if set == nil {
		return
	}
	for _, sel := range x.matching(set) {
		x.onMatch(sel, id, false)
	}
	x.leave(id, set)
}

// Alike names the labels that an item, which must be there, has: two items have the same labels if and only if this is the same for both. It holds until the
// labels of one of them change.
func (x *Index[Item, Sel]) Alike(id Item) Alike[Item] { return Alike[Item]{x.items[id]} }

// Alike stands for labels that items have in common.
type Alike[Item comparable] struct{ set *labelSet[Item] }

// join enters an item under labels.
func (x *Index[Item, Sel]) join(id Item, labels map[string]string) *labelSet[Item] {
	set, fresh := x.sets.take(labels)
	set.items[id] = struct{}{}
	x.items[id] = set
	if fresh {
		for key, v := range set.labels {
			x.addLabel(set, key, v)
		}
	}
	x.place()
	return set
}

// leave undoes that.
func (x *Index[Item, Sel]) leave(id Item, set *labelSet[Item]) {
	delete(x.items, id)
	delete(set.items, id)
	if len(set.items) > 0 {
		return
	}
	for key, v := range set.labels {
		x.removeLabel(set, key, v)
	}
	x.sets.forget(set)
	if x.latest.labels == set {
		x.latest.labels, x.latest.matches = nil, nil
	}
}

// matching are the selectors that match labels.
func (x *Index[Item, Sel]) matching(set *labelSet[Item]) []Sel {
	if x.latest.labels != set {
		x.latest.labels, x.latest.matches = set, nil
		for sel := range x.candidateSelectors(set.labels) {
			if x.selectors[sel].selector.Match(set.labels) {
				x.latest.matches = append(x.latest.matches, sel)
			}
		}
	}
	return x.latest.matches
}

// SetSelector adds a selector or replaces it. global() matches no item.
func (x *Index[Item, Sel]) SetSelector(id Sel, s *selector.Selector) {
	old, existed := x.selectors[id]
	if existed && old.selector.String() == s.String() {
		return
	}
	x.latest.labels = nil
	replacement := registered{selector: s, requirement: x.choose(s), never: s.IsNone() || s.IsGlobal()}
	for set := range x.candidateSets(replacement) {
		was := existed && old.selector.Match(set.labels)
		if is := s.Match(set.labels); is != was {
			x.tell(id, set, is)
		}
	}
	if existed {
		for set := range x.candidateSets(old) {
			if !replacement.meets(set.labels) && old.selector.Match(set.labels) {
				x.tell(id, set, false)
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

// tell tells of all items with the same labels that a selector matches them, or no longer.
func (x *Index[Item, Sel]) tell(id Sel, set *labelSet[Item], matches bool) {
	for item := range set.items {
		x.onMatch(id, item, matches)
	}
}

// Items iterates over the items that a selector matches, in no particular order.
func (x *Index[Item, Sel]) Items(id Sel) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		r, ok := x.selectors[id]
		if !ok {
			return
		}
		for set := range x.candidateSets(r) {
			if !r.selector.Match(set.labels) {
				continue
			}
			for item := range set.items {
				if !yield(item) {
					return
				}
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
