package selector

import (
	"strconv"
	"strings"
)

// append writes the canonical form of n behind b.
func (n *node) append(b []byte) []byte {
	switch n.op {
	case opAll:
		return append(b, "all()"...)
	case opNone:
		return append(b, "!all()"...)
	case opGlobal:
		return append(b, "global()"...)
	case opHas:
		b = append(b, "has("...)
		b = append(b, n.key...)
		return append(b, ')')
	case opIn:
		return n.appendIn(b, " == ", " in {")
	case opContains:
		return n.appendComparison(b, " contains ")
	case opStarts:
		return n.appendComparison(b, " starts with ")
	case opEnds:
		return n.appendComparison(b, " ends with ")
	case opNot:
		return n.appendNot(b)
	case opAnd:
		return n.appendOperands(b, " && ")
	case opOr:
		return n.appendOperands(b, " || ")
	}
	return b
}

func (n *node) appendNot(b []byte) []byte {
	kid := &n.kids[0]
	if kid.op == opIn {
		return kid.appendIn(b, " != ", " not in {")
	}
	b = append(b, '!')
	if kid.op == opHas {
		return kid.append(b)
	}
	b = append(b, '(')
	b = kid.append(b)
	return append(b, ')')
}

// appendOperands writes the operands of && or ||. Only an || inside an && needs parentheses.
func (n *node) appendOperands(b []byte, operator string) []byte {
	for i := range n.kids {
		if i > 0 {
			b = append(b, operator...)
		}
		if kid := &n.kids[i]; kid.op == opOr {
			b = append(b, '(')
			b = kid.append(b)
			b = append(b, ')')
		} else {
			b = kid.append(b)
		}
	}
	return b
}

func (n *node) appendComparison(b []byte, operator string) []byte {
	b = append(b, n.key...)
	b = append(b, operator...)
	return appendString(b, n.values[0])
}

func (n *node) appendIn(b []byte, one, many string) []byte {
	if len(n.values) == 1 {
		return n.appendComparison(b, one)
	}
	b = append(b, n.key...)
	b = append(b, many...)
	for i, value := range n.values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, value)
	}
	return append(b, '}')
}

// appendString quotes a value. One with both kinds of quotes gets a form that is no part of the language, so that it
// cannot be taken for anything else.
func appendString(b []byte, value string) []byte {
	quote := byte('\'')
	if strings.IndexByte(value, quote) >= 0 {
		quote = '"'
		if strings.IndexByte(value, quote) >= 0 {
			b = append(b, '<')
			b = strconv.AppendQuote(b, value)
			return append(b, '>')
		}
	}
	b = append(b, quote)
	b = append(b, value...)
	return append(b, quote)
}
