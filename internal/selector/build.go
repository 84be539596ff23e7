package selector

import (
	"slices"
	"strings"
)

// All is the selector that matches everything.
func All() *Selector { return finish(node{op: opAll}) }

// Equal is key == value.
func Equal(key, value string) *Selector { return finish(inNode(key, []string{value})) }

// In is key in {values}. Without values it matches nothing.
func In(key string, values ...string) *Selector { return finish(inNode(key, slices.Clone(values))) }

// Has is has(key).
func Has(key string) *Selector { return finish(node{op: opHas, key: key}) }

// And matches what a and all of b match. An operand that is global() counts as one that matches nothing.
func And(a *Selector, b ...*Selector) *Selector {
	nodes := make([]node, 0, 1+len(b))
	nodes = append(nodes, operand(a))
	for _, s := range b {
		nodes = append(nodes, operand(s))
	}
	return finish(joinNodes(opAnd, nodes))
}

// Or matches what a or any of b matches. An operand that is global() counts as one that matches nothing.
func Or(a *Selector, b ...*Selector) *Selector {
	nodes := make([]node, 0, 1+len(b))
	nodes = append(nodes, operand(a))
	for _, s := range b {
		nodes = append(nodes, operand(s))
	}
	return finish(joinNodes(opOr, nodes))
}

// Not matches what a does not. An operand that is global() counts as one that matches nothing.
func Not(a *Selector) *Selector { return finish(notNode(operand(a))) }

func operand(s *Selector) node {
	if s.root.op == opGlobal {
		return node{op: opNone}
	}
	return s.root
}

func finish(root node) *Selector {
	return &Selector{root: root, text: string(root.append(nil))}
}

// inNode takes over values.
func inNode(key string, values []string) node {
	if len(values) == 0 {
		return node{op: opNone}
	}
	slices.Sort(values)
	return node{op: opIn, key: key, values: slices.Compact(values)}
}

func notNode(n node) node {
	switch n.op {
	case opAll:
		return node{op: opNone}
	case opNone:
		return node{op: opAll}
	case opNot:
		return n.kids[0]
	case opGlobal, opIn, opHas, opContains, opStarts, opEnds, opAnd, opOr:
	}
	return node{op: opNot, kids: []node{n}}
}

// joinNodes joins operands, which are normalised themselves, by opAnd or opOr.
func joinNodes(join op, operands []node) node {
	neutral, absorbing := opAll, opNone
	if join == opOr {
		neutral, absorbing = opNone, opAll
	}
	kids := make([]node, 0, len(operands))
	for _, n := range operands {
		switch n.op {
		case absorbing:
			return n
		case neutral:
		case join:
			kids = append(kids, n.kids...)
		default:
			kids = append(kids, n)
		}
	}
	kids = sortNodes(kids)
	switch len(kids) {
	case 0:
		return node{op: neutral}
	case 1:
		return kids[0]
	}
	return node{op: join, kids: kids}
}

// sortNodes puts nodes into the order of their canonical forms and drops repetitions.
func sortNodes(nodes []node) []node {
	type keyed struct {
		text string
		node node
	}
	sorted := make([]keyed, len(nodes))
	for i, n := range nodes {
		sorted[i] = keyed{string(n.append(nil)), n}
	}
	slices.SortFunc(sorted, func(a, b keyed) int { return strings.Compare(a.text, b.text) })
	sorted = slices.CompactFunc(sorted, func(a, b keyed) bool { return a.text == b.text })
	nodes = nodes[:0]
	for _, k := range sorted {
		nodes = append(nodes, k.node)
	}
	return nodes
}
