package labelindex

import (
	"iter"
	"maps"
	"slices"

	"github.com/manul-net/manul/internal/selector"
)

// choose picks the requirement of a selector that leaves the fewest different labels to be tried, and among those the one that the fewest
// other selectors share. The zero Requirement: the selector demands no particular label.
func (x *Index[Item, Sel]) choose(s *selector.Selector) selector.Requirement {
	var best selector.Requirement
	bestSets, bestSelectors := 0, 0
	for _, r := range s.Requirements() {
		sets, selectors := x.count(r)
		if best.Key == "" || sets < bestSets || sets == bestSets && selectors < bestSelectors {
			best, bestSets, bestSelectors = r, sets, selectors
		}
	}
	return best
}

// count is the number of different labels that meet a requirement and the number of selectors registered under it.
func (x *Index[Item, Sel]) count(r selector.Requirement) (sets, selectors int) {
	l, ok := x.labels[r.Key]
	if !ok {
		return 0, 0
	}
	if len(r.Values) == 0 {
		return l.sets, len(l.selectors)
	}
	for _, v := range r.Values {
		if entry, ok := l.values[v]; ok {
			sets += len(entry.sets)
			selectors += len(entry.selectors)
		}
	}
	return sets, selectors
}

const (
	// firstPlacing is how many different labels there are when requirements are chosen anew for the first time.
	firstPlacing = 64
	// placingGrowth is by how much their number grows from one time to the next, so that all together cost each label set little.
	placingGrowth = 4
)

// placing is the choosing anew of the requirements under which selectors are found, when there are many more labels than when they were chosen
// last: selectors that came before all items crowd under labels that everything has. It is spread over the changes of items that
// follow, lest one of them pays for all selectors; until its turn a selector is found where it was.
type placing[Sel comparable] struct {
	// sets is how many different labels there were when it began last.
	sets int
	// rest are the selectors whose turn is yet to come, and step is how many of them one change takes.
	rest []Sel
	step int
}

// leastStep is how many selectors one change places anew at least: what it takes is little beside the change itself.
const leastStep = 16

// place places anew the selectors whose turn has come.
func (x *Index[Item, Sel]) place() {
	if x.sets.n >= max(firstPlacing, x.placing.sets*placingGrowth) {
		x.placing.sets = x.sets.n
		x.placing.rest = slices.AppendSeq(make([]Sel, 0, len(x.selectors)), maps.Keys(x.selectors))
		// Done before half as many labels have come as begin the next one.
		x.placing.step = max(leastStep, len(x.selectors)/x.sets.n)
	}
	if len(x.placing.rest) == 0 {
		return
	}
	now := x.placing.rest[max(0, len(x.placing.rest)-x.placing.step):]
	x.placing.rest = x.placing.rest[:len(x.placing.rest)-len(now)]
	for _, id := range now {
		r, ok := x.selectors[id]
		if !ok {
			continue // gone meanwhile
		}
		x.unregister(id, r)
		r.requirement = x.choose(r.selector)
		x.register(id, r)
		x.selectors[id] = r
	}
	if len(x.placing.rest) == 0 {
		x.placing.rest = nil
	}
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

// candidateSets are the labels, with items, that meet the requirement of a selector, each once.
func (x *Index[Item, Sel]) candidateSets(r registered) iter.Seq[*labelSet[Item]] {
	return func(yield func(*labelSet[Item]) bool) {
		if r.never {
			return
		}
		if r.requirement.Key == "" {
			for _, sets := range x.sets.bySum {
				for _, set := range sets {
					if !yield(set) {
						return
					}
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
				if !yieldSets(entry, yield) {
					return
				}
			}
			return
		}
		for _, v := range r.requirement.Values {
			if !yieldSets(l.values[v], yield) {
				return
			}
		}
	}
}

func yieldSets[Item, Sel comparable](entry *value[Item, Sel], yield func(*labelSet[Item]) bool) bool {
	if entry == nil {
		return true
	}
	for set := range entry.sets {
		if !yield(set) {
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

func (x *Index[Item, Sel]) addLabel(set *labelSet[Item], key, v string) {
	l := x.label(key)
	l.sets++
	l.value(v).sets[set] = struct{}{}
}

func (x *Index[Item, Sel]) removeLabel(set *labelSet[Item], key, v string) {
	l := x.label(key)
	l.sets--
	delete(l.value(v).sets, set)
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
		entry = &value[Item, Sel]{sets: map[*labelSet[Item]]struct{}{}, selectors: map[Sel]struct{}{}}
		l.values[v] = entry
	}
	return entry
}

func (l *label[Item, Sel]) dropEmpty(v string) {
	if entry := l.values[v]; len(entry.sets) == 0 && len(entry.selectors) == 0 {
		delete(l.values, v)
	}
}
