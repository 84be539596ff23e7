package render

import "github.com/manul-net/manul/internal/selector"

// matcher keeps track of which items which selectors match and tells of every change.
type matcher[I, S comparable] struct {
	items     map[I]*matchedItem[S]
	selectors map[S]*selector.Selector
	start     func(I, S)
	stop      func(I, S)
}

type matchedItem[S comparable] struct {
	labels  selector.Labels
	matches map[S]struct{}
}

func newMatcher[I, S comparable](start, stop func(I, S)) *matcher[I, S] {
	return &matcher[I, S]{items: map[I]*matchedItem[S]{}, selectors: map[S]*selector.Selector{}, start: start, stop: stop}
}

func (m *matcher[I, S]) setItem(id I, labels selector.Labels) {
	item := m.items[id]
	if item == nil {
		item = &matchedItem[S]{matches: map[S]struct{}{}}
		m.items[id] = item
	}
	item.labels = labels
	for s, sel := range m.selectors {
		m.update(id, item, s, sel.Match(labels))
	}
}

func (m *matcher[I, S]) deleteItem(id I) {
	item := m.items[id]
	if item == nil {
		return
	}
	for s := range item.matches {
		m.update(id, item, s, false)
	}
	delete(m.items, id)
}

func (m *matcher[I, S]) setSelector(s S, sel *selector.Selector) {
	m.selectors[s] = sel
	for id, item := range m.items {
		m.update(id, item, s, sel.Match(item.labels))
	}
}

func (m *matcher[I, S]) deleteSelector(s S) {
	delete(m.selectors, s)
	for id, item := range m.items {
		m.update(id, item, s, false)
	}
}

func (m *matcher[I, S]) update(id I, item *matchedItem[S], s S, matches bool) {
	_, matched := item.matches[s]
	switch {
	case matches && !matched:
		item.matches[s] = struct{}{}
		m.start(id, s)
	case !matches && matched:
		delete(item.matches, s)
		m.stop(id, s)
	}
}

// eachMatch calls visit for every selector that matches the item.
func (m *matcher[I, S]) eachMatch(id I, visit func(S)) {
	if item := m.items[id]; item != nil {
		for s := range item.matches {
			visit(s)
		}
	}
}
