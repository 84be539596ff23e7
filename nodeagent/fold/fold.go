// Package fold finds, in tiers of policies, those that only allow, and turns them into elements of sets: what they allow is one
// look-up, whatever their number. Between rules that only allow the order says nothing, so any of them that follow one another
// may be folded together. All of it is kept up to date by what changed in the tables: one more member of a set, or another port
// of a policy, is as many elements as it changes.
package fold

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Direction of policy, as seen from the endpoint.
type Direction uint8

// The directions.
const (
	Ingress Direction = iota
	Egress
	directions
)

// Limits of what is folded. What is depends on them and on the tables alone, not on what came before: a driver that starts anew
// decides as the one before it did.
type Limits struct {
	// MinPrograms in a row that fold: fewer cost a packet no more than the look-ups would.
	MinPrograms int
	// MaxMembers of a set: a greater one is cheaper as it is, for its elements would be there once more for each port.
	MaxMembers int
	// MeanChunk is how many programs a fold has on average, 4 times as many at most. An endpoint that falls under one more
	// policy gets one fold anew, and shares all others with what it had.
	MeanChunk int
	// PerShape is how many programs there must be for each look-up that a fold costs.
	PerShape int
	// MaxElements of a fold: one that would have more is none.
	MaxElements int
}

// DefaultLimits are for clusters as they are.
func DefaultLimits() Limits {
	return Limits{MinPrograms: 9, MaxMembers: 256, MeanChunk: 256, PerShape: 2, MaxElements: 1 << 18}
}

// EverythingFolds are limits by which whatever can be folded is, for tests.
func EverythingFolds() Limits {
	return Limits{MinPrograms: 1, MaxMembers: 1 << 20, MeanChunk: 2, MaxElements: 1 << 18}
}

// maxPeers CIDRs and maxPorts ports of a rule: greater rules are left as they are.
const (
	maxPeers = 64
	maxPorts = 16
)

// Element matches packets whose peer is in Prefix and that have the protocol and the destination port; 0: any.
type Element struct {
	Prefix   netip.Prefix
	Protocol uint8
	Port     uint16
}

// Shape is what elements have in common that one look-up finds.
type Shape struct {
	IPv6           bool
	Bits           uint8
	Protocol, Port bool
	// Only is the one protocol of elements that a look-up can't tell by protocol. 0: it can, or they have none.
	Only uint8
}

// Shapes tells the shape of an element: dataplanes differ in what one look-up finds.
type Shapes func(Element) Shape

// ShapeByFields is the shape of an element where a look-up can leave out any of its fields.
func ShapeByFields(e Element) Shape {
	return Shape{IPv6: !e.Prefix.Addr().Is4(), Bits: uint8(e.Prefix.Bits()), Protocol: e.Protocol != 0, Port: e.Port != 0}
}

// ShapeByProtocol is the shape of an element where a look-up is by address, protocol and port, or by address alone. Elements with
// a protocol and no port are looked up apart for each protocol.
func ShapeByProtocol(e Element) Shape {
	s := ShapeByFields(e)
	if !s.Port {
		s.Only = e.Protocol
	}
	return s
}

// Fold is a number of programs that are folded together. What its elements match is allowed.
type Fold struct {
	// Name tells folds apart. It says which programs they fold, and nothing else.
	Name string

	direction Direction
	shapeOf   Shapes
	programs  []*program
	tiers     int // that use it
	// terms count the rules that say the same, by set those that name it, elements the terms that an element is of.
	terms    map[term]int32
	bySet    map[string][]term
	elements map[Element]int32
	shapes   map[Shape]int32
	// changes since the last Clean: 1 came, -1 went.
	changes map[Element]int8
	// active: it is worth its look-ups. exists: it was at the last Clean.
	active, exists bool
	// announced are the shapes that the tiers know of.
	announced []Shape
}

// Direction of the programs that it folds.
func (f *Fold) Direction() Direction { return f.direction }

// Active tells whether the fold is to be in force.
func (f *Fold) Active() bool { return f.active }

// Exists tells whether the fold was in force at the last Clean.
func (f *Fold) Exists() bool { return f.exists }

// Elements iterates over all elements, in no particular order.
func (f *Fold) Elements() func(func(Element) bool) { return maps.Keys(f.elements) }

// Has tells whether e is an element.
func (f *Fold) Has(e Element) bool { return f.elements[e] > 0 }

// Changes iterates over the elements that came (true) and went (false) since the last Clean.
func (f *Fold) Changes() func(func(Element, bool) bool) {
	return func(yield func(Element, bool) bool) {
		for e, step := range f.changes {
			if !yield(e, step > 0) {
				return
			}
		}
	}
}

// Shapes of the elements, in the order in which to look them up.
func (f *Fold) Shapes() []Shape { return f.announced }

// count adds to what an element is there for.
func (f *Fold) count(e Element, step int32) {
	before := f.elements[e]
	after := before + step
	if after == 0 {
		delete(f.elements, e)
	} else {
		f.elements[e] = after
	}
	if (before > 0) == (after > 0) {
		return
	}
	shape := f.shapeOf(e)
	sign := int8(1)
	if after == 0 {
		sign = -1
	}
	if f.shapes[shape] += int32(sign); f.shapes[shape] == 0 {
		delete(f.shapes, shape)
	}
	if !f.exists {
		return // all elements are news
	}
	if f.changes[e] += sign; f.changes[e] == 0 {
		delete(f.changes, e)
	}
}

// addTerm counts one more rule that says t; dropTerm one less.
func (f *Fold) addTerm(t term, members *tables.Members, v6 bool) {
	if f.terms[t]++; f.terms[t] > 1 {
		return
	}
	if t.set != "" {
		f.bySet[t.set] = append(f.bySet[t.set], t)
	}
	for e := range t.elements(members, v6) {
		f.count(e, 1)
	}
}

func (f *Fold) dropTerm(t term, members *tables.Members, v6 bool) {
	if f.terms[t]--; f.terms[t] > 0 {
		return
	}
	delete(f.terms, t)
	if t.set != "" {
		f.bySet[t.set] = slices.DeleteFunc(f.bySet[t.set], func(other term) bool { return other == t })
		if len(f.bySet[t.set]) == 0 {
			delete(f.bySet, t.set)
		}
	}
	for e := range t.elements(members, v6) {
		f.count(e, -1)
	}
}

// member takes the news that an address or CIDR came into a set (step 1) or went from it (step -1).
func (f *Fold) member(m tables.Member, step int32, v6 bool) {
	for _, t := range f.bySet[m.Set] {
		if t.allows(m.Prefix, v6) {
			f.count(Element{m.Prefix, t.protocol, t.port}, step)
		}
	}
}

// settle works out whether the fold is worth its look-ups, and tells whether tiers have to know of a change.
func (f *Fold) settle(limits Limits) bool {
	shapes := slices.SortedFunc(maps.Keys(f.shapes), Shape.compare)
	active := len(f.programs) >= limits.PerShape*len(shapes) && len(f.elements) <= limits.MaxElements
	changed := active != f.active || !slices.Equal(shapes, f.announced)
	f.active, f.announced = active, shapes
	return changed
}

// compare orders look-ups: single addresses first, which most policies let in, and ports before none.
func (s Shape) compare(o Shape) int {
	rank := func(s Shape) int {
		n := int(s.Bits) << 2
		if s.Port {
			n += 2
		}
		if s.Protocol {
			n++
		}
		if s.IPv6 {
			n -= 1 << 16
		}
		return n
	}
	return cmp.Or(rank(o)-rank(s), cmp.Compare(s.Only, o.Only))
}
