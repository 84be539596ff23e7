package labelindex

import (
	"iter"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// choose picks the requirement of a selector that leaves the fewest items, and among those the one that the fewest other
// selectors share: before there are items, that keeps selectors from crowding under a label that everything has. The
// zero Requirement: the selector demands no particular label.
func (x *Index[Item, Sel]) choose(s *selector.Selector) selector.Requirement {
	var best selector.Requirement
	bestItems, bestSelectors := 0, 0
	for _, r := range s.Requirements() {
		items, selectors := x.count(r)
		if best.Key == "" || items < bestItems || items == bestItems && selectors < bestSelectors {
			best, bestItems, bestSelectors = r, items, selectors
		}
	}
	return best
}

// count is the number of items that meet a requirement and the number of selectors registered under it.
func (x *Index[Item, Sel]) count(r selector.Requirement) (items, selectors int) {
	l, ok := x.labels[r.Key]
	if !ok {
		return 0, 0
	}
	if len(r.Values) == 0 {
		return l.items, len(l.selectors)
	}
	for _, v := range r.Values {
		if entry, ok := l.values[v]; ok {
			items += len(entry.items)
			selectors += len(entry.selectors)
		}
	}
	return items, selectors
}

// meets tells whether an item with these labels is a candidate.
func (r registered) meets(labels selector.Map) bool {
	if r.never || r.requirement.Key == "" {
		return !r.never
	}
	v, ok := labels[r.requirement.Key]
	if !ok || len(r.requirement.Values) == 0 {
		return ok
	}
	_, found := slices.BinarySearch(r.requirement.Values, v)
	return found
}

// candidateItems are the items that meet the requirement of a selector, each once, and their labels.
func (x *Index[Item, Sel]) candidateItems(r registered) iter.Seq2[Item, selector.Map] {
	return func(yield func(Item, selector.Map) bool) {
		if r.never {
			return
		}
		if r.requirement.Key == "" {
			for item, set := range x.items {
				if !yield(item, set.labels) {
					return
				}
			}
			return
		}
		l, ok := x.labels[r.requirement.Key]
		if !ok {
			return
		}
		if len(r.requirement.Values) == 0 {
			for _, entry := range l.values {
				if !x.yieldItems(entry, yield) {
					return
				}
			}
			return
		}
		for _, v := range r.requirement.Values {
			if !x.yieldItems(l.values[v], yield) {
				return
			}
		}
	}
}

func (x *Index[Item, Sel]) yieldItems(entry *value[Item, Sel], yield func(Item, selector.Map) bool) bool {
	if entry == nil {
		return true
	}
	for item := range entry.items {
		if !yield(item, x.items[item].labels) {
			return false
		}
	}
	return true
}

// candidateSelectors are the selectors whose requirement labels meet, each once: a selector is registered under one key
// alone, and an item has one value of it.
func (x *Index[Item, Sel]) candidateSelectors(labels selector.Map) iter.Seq[Sel] {
	return func(yield func(Sel) bool) {
		for sel := range x.unbound {
			if !yield(sel) {
				return
			}
		}
		for key, v := range labels {
			l, ok := x.labels[key]
			if !ok {
				continue
			}
			for sel := range l.selectors {
				if !yield(sel) {
					return
				}
			}
			entry, ok := l.values[v]
			if !ok {
				continue
			}
			for sel := range entry.selectors {
				if !yield(sel) {
					return
				}
			}
		}
	}
}

func (x *Index[Item, Sel]) register(id Sel, reg registered) {
	if reg.never {
		return
	}
	r := reg.requirement
	if r.Key == "" {
		x.unbound[id] = struct{}{}
		return
	}
	l := x.label(r.Key)
	if len(r.Values) == 0 {
		l.selectors[id] = struct{}{}
	}
	for _, v := range r.Values {
		l.value(v).selectors[id] = struct{}{}
	}
}

func (x *Index[Item, Sel]) unregister(id Sel, reg registered) {
	if reg.never {
		return
	}
	r := reg.requirement
	if r.Key == "" {
		delete(x.unbound, id)
		return
	}
	l := x.label(r.Key)
	delete(l.selectors, id)
	for _, v := range r.Values {
		delete(l.value(v).selectors, id)
		l.dropEmpty(v)
	}
	x.dropEmpty(r.Key)
}

func (x *Index[Item, Sel]) addItemLabel(id Item, key, v string) {
	l := x.label(key)
	l.items++
	l.value(v).items[id] = struct{}{}
}

func (x *Index[Item, Sel]) removeItemLabel(id Item, key, v string) {
	l := x.label(key)
	l.items--
	delete(l.value(v).items, id)
	l.dropEmpty(v)
	x.dropEmpty(key)
}

func (x *Index[Item, Sel]) label(key string) *label[Item, Sel] {
	l, ok := x.labels[key]
	if !ok {
		l = &label[Item, Sel]{values: map[string]*value[Item, Sel]{}, selectors: map[Sel]struct{}{}}
		x.labels[key] = l
	}
	return l
}

func (x *Index[Item, Sel]) dropEmpty(key string) {
	if l := x.labels[key]; len(l.values) == 0 && len(l.selectors) == 0 {
		delete(x.labels, key)
	}
}

func (l *label[Item, Sel]) value(v string) *value[Item, Sel] {
	entry, ok := l.values[v]
	if !ok {
		entry = &value[Item, Sel]{items: map[Item]struct{}{}, selectors: map[Sel]struct{}{}}
		l.values[v] = entry
	}
	return entry
}

func (l *label[Item, Sel]) dropEmpty(v string) {
	if entry := l.values[v]; len(entry.items) == 0 && len(entry.selectors) == 0 {
		delete(l.values, v)
	}
}
