package oracle

import "strings"

// matches evaluates a selector while reading it. It takes only what is well formed.
func matches(text string, labels map[string]string) bool {
	if strings.TrimSpace(text) == "" {
		return true
	}
	e := &evaluation{tokens: tokens(text), labels: labels}
	return e.or()
}

// tokens cuts a selector into words, operators and strings, which keep their opening quote.
func tokens(text string) []string {
	var out []string
	for len(text) > 0 {
		switch c := text[0]; {
		case c == ' ' || c == '\t':
			text = text[1:]
		case c == '\'' || c == '"':
			end := 1 + strings.IndexByte(text[1:], c)
			out = append(out, "'"+text[1:end])
			text = text[end+1:]
		case strings.HasPrefix(text, "||"), strings.HasPrefix(text, "&&"), strings.HasPrefix(text, "=="), strings.HasPrefix(text, "!="):
			out = append(out, text[:2])
			text = text[2:]
		case strings.IndexByte("(){},!", c) >= 0:
			out = append(out, text[:1])
			text = text[1:]
		default:
			end := strings.IndexAny(text, " \t'\"|&=!(){},")
			if end < 0 {
				end = len(text)
			}
			out = append(out, text[:end])
			text = text[end:]
		}
	}
	return out
}

type evaluation struct {
	tokens []string
	labels map[string]string
}

func (e *evaluation) peek() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *evaluation) next() string {
	t := e.peek()
	e.tokens = e.tokens[1:]
	return t
}

func (e *evaluation) or() bool {
	result := e.and()
	for e.peek() == "||" {
		e.next()
		right := e.and()
		result = result || right
	}
	return result
}

func (e *evaluation) and() bool {
	result := e.not()
	for e.peek() == "&&" {
		e.next()
		right := e.not()
		result = result && right
	}
	return result
}

func (e *evaluation) not() bool {
	if e.peek() == "!" {
		e.next()
		return !e.not()
	}
	return e.term()
}

func (e *evaluation) term() bool {
	word := e.next()
	if word == "(" {
		result := e.or()
		e.next()
		return result
	}
	if e.peek() == "(" {
		e.next()
		if word == "all" {
			e.next()
			return true
		}
		_, ok := e.labels[e.next()]
		e.next()
		return ok
	}
	value, ok := e.labels[word]
	switch operator := e.next(); operator {
	case "==":
		return e.text() == value && ok
	case "!=":
		return e.text() != value || !ok
	case "in":
		return e.list(value) && ok
	case "not", "notin":
		if operator == "not" {
			e.next()
		}
		return !e.list(value) || !ok
	case "contains":
		return strings.Contains(value, e.text()) && ok
	case "starts":
		e.next()
		return strings.HasPrefix(value, e.text()) && ok
	case "ends":
		e.next()
		return strings.HasSuffix(value, e.text()) && ok
	}
	return false
}

func (e *evaluation) text() string { return e.next()[1:] }

// list reads a list in braces and tells whether value is in it.
func (e *evaluation) list(value string) bool {
	found := false
	e.next()
	for e.peek() != "}" {
		if e.peek() == "," {
			e.next()
			continue
		}
		found = e.text() == value || found
	}
	e.next()
	return found
}
