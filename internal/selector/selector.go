// Package selector is the selector language of the projectcalico.org/v3 API: parsing, a canonical form, matching, and
// ways to combine selectors.
//
// From loosest to tightest the language has ||, && and !, and parentheses. Its terms are
//
//	k == 'v'   k != 'v'   k in {'a', 'b'}   k not in {'a', 'b'}   (also: k notin {...})
//	k contains 's'   k starts with 's'   k ends with 's'
//	has(k)   all()   global()
//
// != and "not in" match when the label is absent, every other comparison does not. Strings stand in single or double quotes
// and have no escapes. The empty selector is all().
package selector

import (
	"slices"
	"strings"
)

// Labels is what a selector looks at.
type Labels interface {
	// Get returns the value of a label and whether it is there.
	Get(key string) (string, bool)
}

// Map is a plain set of labels.
type Map map[string]string

// Get returns the value of a label and whether it is there.
func (m Map) Get(key string) (string, bool) {
	value, ok := m[key]
	return value, ok
}

// Selector is a parsed selector. It does not change once it is made, so it may be shared and used concurrently.
// The zero Selector is all().
type Selector struct {
	root node
	// text is the canonical form; the zero Selector has none and writes all() instead.
	text string
}

// Match tells whether labels fulfil the selector. It allocates nothing.
//
// global() matches no labels: it stands for what has no namespace and therefore no namespace's labels. A caller that
// may meet it asks IsGlobal first.
func (s *Selector) Match(labels Labels) bool { return s.root.match(labels) }

// String is the canonical form. Selectors that differ only in blanks, kind of quotes, redundant parentheses and
// negations, or in the order and repetition of operands and of values, have the same canonical form. Parse reads it
// back unless it has grown over MaxLength; ParseCanonical always does.
//
// A value that holds both kinds of quotes cannot be written in the language. Parse never yields one; if a combinator was
// given one, the canonical form is still unlike that of every other selector, but cannot be parsed.
func (s *Selector) String() string {
	if s.text == "" {
		return string(s.root.append(nil))
	}
	return s.text
}

// Keys are the label keys on which the outcome depends, sorted.
func (s *Selector) Keys() []string {
	keys := s.root.keys(nil)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// IsAll tells whether the selector matches everything, however it was written.
func (s *Selector) IsAll() bool { return s.root.op == opAll }

// IsGlobal tells whether the selector is global(): what belongs to no namespace.
func (s *Selector) IsGlobal() bool { return s.root.op == opGlobal }

// op is what a node does.
type op uint8

const (
	opAll op = iota
	opNone
	opGlobal
	opIn
	opHas
	opContains
	opStarts
	opEnds
	opNot
	opAnd
	opOr
)

// node is a normalised expression. Constructors in build.go keep it so: operands of && and || are sorted, distinct, at
// least two, and none is of the same kind as its parent; a negation never has a negation below it; opAll, opNone and
// opGlobal stand only at the root. Comparisons for equality are opIn with one value, their opposites an opNot over it.
type node struct {
	op  op
	key string
	// values: opIn: sorted, distinct, at least one. opContains, opStarts, opEnds: exactly one.
	values []string
	// kids: opNot: one. opAnd, opOr: two or more.
	kids []node
}

func (n *node) match(labels Labels) bool {
	switch n.op {
	case opAll:
		return true
	case opNone, opGlobal:
		return false
	case opNot:
		return !n.kids[0].match(labels)
	case opAnd:
		for i := range n.kids {
			if !n.kids[i].match(labels) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.kids {
			if n.kids[i].match(labels) {
				return true
			}
		}
		return false
	case opIn, opHas, opContains, opStarts, opEnds:
		value, ok := labels.Get(n.key)
		return ok && n.matchValue(value)
	}
	return false
}

// matchValue compares the value of a label that is there.
func (n *node) matchValue(value string) bool {
	switch n.op {
	case opHas:
		return true
	case opIn:
		_, found := slices.BinarySearch(n.values, value)
		return found
	case opContains:
		return strings.Contains(value, n.values[0])
	case opStarts:
		return strings.HasPrefix(value, n.values[0])
	case opEnds:
		return strings.HasSuffix(value, n.values[0])
	case opAll, opNone, opGlobal, opNot, opAnd, opOr:
	}
	return false
}

func (n *node) keys(keys []string) []string {
	if n.key != "" {
		keys = append(keys, n.key)
	}
	for i := range n.kids {
		keys = n.kids[i].keys(keys)
	}
	return keys
}
