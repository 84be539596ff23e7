package selector

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of the language.
const (
	// MaxLength of a selector, in characters.
	MaxLength = 1024
	// MaxKeyLength is the greatest length of a label key, in characters.
	MaxKeyLength = 512
	// MaxDepth is how deep parentheses may be nested.
	MaxDepth = 100
)

// canonicalDepth bounds the nesting of canonical forms: combinators nest what was parsed a little deeper.
const canonicalDepth = 10 * MaxDepth

const (
	blanks = " \t"

	hintFunctions = "the functions are has(key), all() and global()"
	hintOperators = "operators are ==, !=, in, not in, contains, starts with, ends with; has(key) tells whether a label is there"
	hintLineBreak = "only spaces and tabs may separate words; keep the selector on one line"
)

// Parse reads a selector that a user wrote. The error is an *Error.
func Parse(text string) (*Selector, error) {
	if n := utf8.RuneCountInString(text); n > MaxLength {
		return nil, &Error{
			Position: characterOffset(text, MaxLength),
			Reason:   fmt.Sprintf("selector too long: %d characters, at most %d are allowed", n, MaxLength),
			Hint:     "put a label that stands for the group on the objects and select by it",
		}
	}
	return parse(text, MaxDepth)
}

// characterOffset is the offset in bytes of the n-th character, counted from 0.
func characterOffset(text string, n int) int {
	for offset := range text {
		if n == 0 {
			return offset
		}
		n--
	}
	return len(text)
}

// ParseCanonical reads back what String wrote: unlike Parse it takes any length, since the canonical form of a
// selector may be longer than what the user wrote, and combined selectors longer still. The error is an *Error.
func ParseCanonical(text string) (*Selector, error) { return parse(text, canonicalDepth) }

func parse(text string, depth int) (*Selector, error) {
	p := parser{text: text, depth: depth, global: -1}
	p.skipBlanks()
	if p.atEnd() {
		return All(), nil
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if !p.atEnd() {
		return nil, p.trailing()
	}
	if p.global >= 0 && root.op != opGlobal {
		return nil, &Error{Position: p.global, Reason: "global() cannot be combined with anything", Hint: "it may stand only alone"}
	}
	return finish(root), nil
}

// parser is a recursive descent over text. Each method leaves pos at the first character that it did not consume, with
// blanks skipped.
type parser struct {
	text  string
	pos   int
	depth int
	// global is the position of a global(), -1 if there is none.
	global int
}

func (p *parser) or() (node, error) {
	first, err := p.and()
	if err != nil || !p.take("||") {
		return first, err
	}
	operands := []node{first}
	for {
		next, err := p.and()
		if err != nil {
			return node{}, err
		}
		operands = append(operands, next)
		if !p.take("||") {
			return p.join(opOr, operands), nil
		}
	}
}

func (p *parser) and() (node, error) {
	first, err := p.not()
	if err != nil || !p.take("&&") {
		return first, err
	}
	operands := []node{first}
	for {
		next, err := p.not()
		if err != nil {
			return node{}, err
		}
		operands = append(operands, next)
		if !p.take("&&") {
			return p.join(opAnd, operands), nil
		}
	}
}

// join treats a global() among the operands as matching nothing; parse reports it afterwards.
func (p *parser) join(join op, operands []node) node {
	for i := range operands {
		if operands[i].op == opGlobal {
			operands[i] = node{op: opNone}
		}
	}
	return joinNodes(join, operands)
}

// not is any number of ! and a term; a loop, so that their number does not matter to the stack.
func (p *parser) not() (node, error) {
	negations := 0
	for p.take("!") {
		negations++
	}
	n, err := p.term()
	if err != nil {
		return node{}, err
	}
	if negations > 0 && n.op == opGlobal {
		n.op = opNone
	}
	if negations%2 == 1 {
		n = notNode(n)
	}
	return n, nil
}

func (p *parser) term() (node, error) {
	if p.peek() == '(' {
		return p.parentheses()
	}
	start := p.pos
	word := p.word()
	if word == "" {
		return node{}, p.expected("a label key, a function or an opening parenthesis", p.termHint())
	}
	if p.peek() == '(' {
		return p.function(word, start)
	}
	if err := p.checkKey(word, start); err != nil {
		return node{}, err
	}
	p.skipBlanks()
	return p.comparison(word)
}

func (p *parser) termHint() string {
	switch p.peek() {
	case '\'', '"':
		return "label keys have no quotes: key == 'value'"
	case '\n', '\r':
		return hintLineBreak
	}
	return ""
}

func (p *parser) parentheses() (node, error) {
	start := p.pos
	if p.depth == 0 {
		return node{}, &Error{Position: start, Reason: "parentheses nested too deep", Hint: fmt.Sprintf("at most %d levels are allowed", MaxDepth)}
	}
	p.depth--
	p.advance(1)
	n, err := p.or()
	if err != nil {
		return node{}, err
	}
	p.depth++
	if !p.take(")") {
		if p.atEnd() {
			return node{}, &Error{Position: p.pos, Reason: fmt.Sprintf("expected a closing parenthesis for the one opened at %d, found end of selector", start)}
		}
		return node{}, p.trailing()
	}
	return n, nil
}

// function reads the arguments of the function whose name was at start.
func (p *parser) function(name string, start int) (node, error) {
	p.advance(1)
	var n node
	switch name {
	case "all":
		n = node{op: opAll}
	case "global":
		n, p.global = node{op: opGlobal}, start
	case "has":
		keyStart := p.pos
		key := p.word()
		if key == "" {
			hint := ""
			if c := p.peek(); c == '\'' || c == '"' {
				hint = "label keys have no quotes: has(key)"
			}
			return node{}, p.expected("a label key", hint)
		}
		if err := p.checkKey(key, keyStart); err != nil {
			return node{}, err
		}
		p.skipBlanks()
		n = node{op: opHas, key: key}
	default:
		return node{}, &Error{Position: start, Reason: fmt.Sprintf("unknown function %s()", shorten(name)), Hint: hintFunctions}
	}
	if !p.take(")") {
		return node{}, p.expected(fmt.Sprintf("a closing parenthesis of %s()", name), "")
	}
	return n, nil
}

// comparison reads operator and value behind a key.
func (p *parser) comparison(key string) (node, error) {
	switch {
	case p.take("=="):
		value, err := p.value()
		return node{op: opIn, key: key, values: []string{value}}, err
	case p.take("!="):
		value, err := p.value()
		return notNode(node{op: opIn, key: key, values: []string{value}}), err
	}
	operatorStart := p.pos
	operator := p.operator()
	switch operator {
	case "in", "notin":
		values, err := p.values()
		if err != nil {
			return node{}, err
		}
		n := inNode(key, values)
		if operator == "notin" {
			n = notNode(n)
		}
		return n, nil
	case "contains":
		return p.compare(opContains, key)
	case "startswith":
		return p.compare(opStarts, key)
	case "endswith":
		return p.compare(opEnds, key)
	}
	p.pos = operatorStart
	return node{}, p.expected("an operator after label key "+shorten(key), p.operatorHint(key))
}

func (p *parser) compare(o op, key string) (node, error) {
	value, err := p.value()
	return node{op: o, key: key, values: []string{value}}, err
}

// operator reads a worded operator and returns it without blanks inside.
func (p *parser) operator() string {
	operator := p.word()
	p.skipBlanks()
	second := ""
	switch operator {
	case "not":
		second = "in"
	case "starts", "ends":
		second = "with"
	default:
		return operator
	}
	if p.word() != second {
		return ""
	}
	p.skipBlanks()
	return operator + second
}

func (p *parser) operatorHint(key string) string {
	rest := p.text[p.pos:]
	switch {
	case strings.HasPrefix(rest, "="):
		return "equality is written ==, with two signs"
	case strings.HasPrefix(rest, "("):
		return fmt.Sprintf("no blank may stand between a function and its parenthesis: %s(...)", shorten(key))
	case strings.HasPrefix(rest, "\n"), strings.HasPrefix(rest, "\r"):
		return hintLineBreak
	case key == "not" || key == "NOT":
		return "negation is written !"
	case strings.HasPrefix(rest, ":"):
		return "a selector is one string of terms, not a map"
	}
	return hintOperators
}

// value reads a string in quotes.
func (p *parser) value() (string, error) {
	quote := p.peek()
	if quote != '\'' && quote != '"' {
		hint := "values stand in quotes"
		if word := p.peekWord(); word != "" {
			hint = fmt.Sprintf("values stand in quotes: '%s'", shorten(word))
		}
		return "", p.expected("a string in quotes", hint)
	}
	start := p.pos
	length := strings.IndexByte(p.text[start+1:], quote)
	if length < 0 {
		return "", &Error{Position: start, Reason: fmt.Sprintf("unterminated string starting at %d", start), Hint: fmt.Sprintf("close it with %c", quote)}
	}
	p.advance(length + 2)
	return p.text[start+1 : start+1+length], nil
}

// values reads a list of strings in braces. The list may be empty and may end with a comma.
func (p *parser) values() ([]string, error) {
	if !p.take("{") {
		return nil, p.expected("a list in braces", "lists are written {'a', 'b'}")
	}
	values := []string{}
	for !p.take("}") {
		value, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if !p.take(",") && p.peek() != '}' {
			return nil, p.expected("a comma or a closing brace", "lists are written {'a', 'b'}")
		}
	}
	return values, nil
}

func (p *parser) checkKey(key string, start int) error {
	if len(key) > MaxKeyLength {
		return &Error{Position: start, Reason: fmt.Sprintf("label key too long: %d characters, at most %d are allowed", len(key), MaxKeyLength)}
	}
	return nil
}

// trailing is the error for something behind a complete term that continues nothing.
func (p *parser) trailing() error {
	hint := ""
	switch rest := p.text[p.pos:]; {
	case rest[0] == ')':
		hint = "there is no opening parenthesis for it"
	case rest[0] == '&':
		hint = "conjunction is written &&, with two signs"
	case rest[0] == '|':
		hint = "disjunction is written ||, with two signs"
	case rest[0] == ',':
		hint = "terms are joined by && or ||"
	case rest[0] == '\n' || rest[0] == '\r':
		hint = hintLineBreak
	case strings.EqualFold(p.peekWord(), "and"):
		hint = "conjunction is written &&"
	case strings.EqualFold(p.peekWord(), "or"):
		hint = "disjunction is written ||"
	}
	return p.expected("&&, || or the end", hint)
}

func (p *parser) expected(what, hint string) *Error {
	return &Error{Position: p.pos, Reason: "expected " + what + ", found " + p.found(), Hint: hint}
}

// found names what is at pos.
func (p *parser) found() string {
	if p.atEnd() {
		return "end of selector"
	}
	if word := p.peekWord(); word != "" {
		return fmt.Sprintf("%q", shorten(word))
	}
	_, size := utf8.DecodeRuneInString(p.text[p.pos:])
	return fmt.Sprintf("%q", p.text[p.pos:p.pos+size])
}

// shorten keeps messages readable whatever the length of a word.
func shorten(word string) string {
	const limit = 60
	if len(word) > limit {
		return word[:limit] + "..."
	}
	return word
}

// word consumes the longest run of characters of a label key, and no blanks behind it.
func (p *parser) word() string {
	word := p.peekWord()
	p.pos += len(word)
	return word
}

func (p *parser) peekWord() string {
	end := p.pos
	for end < len(p.text) && isKeyCharacter(p.text[end]) {
		end++
	}
	return p.text[p.pos:end]
}

func isKeyCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '/' || c == '-'
}

// take consumes token, and blanks behind it, if it is next.
func (p *parser) take(token string) bool {
	if !strings.HasPrefix(p.text[p.pos:], token) {
		return false
	}
	p.advance(len(token))
	return true
}

func (p *parser) advance(n int) {
	p.pos += n
	p.skipBlanks()
}

func (p *parser) skipBlanks() {
	for p.pos < len(p.text) && strings.IndexByte(blanks, p.text[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) atEnd() bool { return p.pos == len(p.text) }

// peek is the next character, 0 at the end.
func (p *parser) peek() byte {
	if p.atEnd() {
		return 0
	}
	return p.text[p.pos]
}
