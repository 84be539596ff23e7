package selector

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive evaluates a selector that is known to be valid by cutting its tokens at the loosest operator again and again. It
// shares nothing with the parser.
type naive struct{ labels Map }

func newNaiveTokens() *regexp.Regexp {
	return regexp.MustCompile(`'[^']*'|"[^"]*"|&&|\|\||==|!=|[!(){},]|[A-Za-z0-9_./-]+|[ \t]+`)
}

func (e naive) text(pattern *regexp.Regexp, text string) bool {
	var tokens []string
	for _, token := range pattern.FindAllString(text, -1) {
		if strings.Trim(token, " \t") != "" {
			tokens = append(tokens, token)
		}
	}
	return len(tokens) == 0 || e.expression(tokens)
}

func (e naive) expression(tokens []string) bool {
	if alternatives := cutTokens(tokens, "||"); len(alternatives) > 1 {
		return slices.ContainsFunc(alternatives, e.expression)
	}
	if conjuncts := cutTokens(tokens, "&&"); len(conjuncts) > 1 {
		return !slices.ContainsFunc(conjuncts, func(c []string) bool { return !e.expression(c) })
	}
	switch {
	case tokens[0] == "!":
		return !e.expression(tokens[1:])
	case tokens[0] == "(":
		return e.expression(tokens[1 : len(tokens)-1])
	case len(tokens) > 1 && tokens[1] == "(":
		_, has := e.labels[tokens[2]]
		return tokens[0] == "all" || tokens[0] == "has" && has
	}
	return e.comparison(tokens)
}

func (e naive) comparison(tokens []string) bool {
	value, has := e.labels[tokens[0]]
	operator, literals := "", []string{}
	for _, token := range tokens[1:] {
		switch token[0] {
		case '\'', '"':
			literals = append(literals, token[1:len(token)-1])
		case '{', ',', '}':
		default:
			operator += token
		}
	}
	switch operator {
	case "==", "in":
		return has && slices.Contains(literals, value)
	case "!=", "notin":
		return !has || !slices.Contains(literals, value)
	case "contains":
		return has && strings.Contains(value, literals[0])
	case "startswith":
		return has && strings.HasPrefix(value, literals[0])
	case "endswith":
		return has && strings.HasSuffix(value, literals[0])
	}
	return false
}

// cutTokens cuts at every separator outside parentheses.
func cutTokens(tokens []string, separator string) [][]string {
	var parts [][]string
	depth, start := 0, 0
	for i, token := range tokens {
		switch token {
		case "(":
			depth++
		case ")":
			depth--
		case separator:
			if depth == 0 {
				parts = append(parts, tokens[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, tokens[start:])
}

// labelsNear draws labels about which the selector has something to say.
func labelsNear(t *rapid.T, text string) Map {
	words := append(regexp.MustCompile(`[A-Za-z0-9_./-]+`).FindAllString(text, -1), "", "other")
	return rapid.MapOfN(rapid.SampledFrom(words), rapid.SampledFrom(words), 0, 5).Draw(t, "labels")
}

// selectorText draws a valid selector, with blanks, quotes and parentheses as they come.
func selectorText(t *rapid.T, depth int) string {
	blank := func(least int) string {
		return strings.Repeat(rapid.SampledFrom([]string{" ", "\t"}).Draw(t, "blank"), rapid.IntRange(least, 2).Draw(t, "blanks"))
	}
	key := func() string {
		return rapid.SampledFrom([]string{"a", "b", "a.b/c", "in", "not", "has", "all", "X_-"}).Draw(t, "key")
	}
	value := func() string {
		v := rapid.SampledFrom([]string{"", "a", "b", "ab", "b-a", "in", "x y", "&&", "a || b", "(", "}"}).Draw(t, "value")
		quote := rapid.SampledFrom([]string{"'", `"`}).Draw(t, "quote")
		return quote + v + quote
	}
	list := func() string {
		text := "{" + blank(0)
		for i := range rapid.IntRange(0, 3).Draw(t, "values") {
			if i > 0 {
				text += "," + blank(0)
			}
			text += value() + blank(0)
		}
		return text + "}"
	}
	choices := 8
	if depth > 0 {
		choices = 12
	}
	switch rapid.IntRange(0, choices-1).Draw(t, "kind") {
	case 0:
		return key() + blank(0) + "==" + blank(0) + value()
	case 1:
		return key() + blank(0) + "!=" + blank(0) + value()
	case 2:
		return key() + blank(1) + "in" + blank(0) + list()
	case 3:
		return key() + blank(1) + "not" + blank(0) + "in" + blank(0) + list()
	case 4:
		return key() + blank(1) + "contains" + blank(0) + value()
	case 5:
		word := rapid.SampledFrom([]string{"starts", "ends"}).Draw(t, "word")
		return key() + blank(1) + word + blank(0) + "with" + blank(0) + value()
	case 6:
		return "has(" + blank(0) + key() + blank(0) + ")"
	case 7:
		return "all(" + blank(0) + ")"
	case 8:
		return "!" + blank(0) + selectorText(t, 0)
	case 9:
		return "(" + blank(0) + selectorText(t, depth-1) + blank(0) + ")"
	case 10:
		return selectorText(t, depth-1) + blank(0) + "&&" + blank(0) + selectorText(t, depth-1)
	default:
		return selectorText(t, depth-1) + blank(0) + "||" + blank(0) + selectorText(t, depth-1)
	}
}

// checkCanonical checks that the canonical form means the same, and is its own canonical form.
func checkCanonical(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, s *Selector,
) {
	t.Helper()
	again, err := ParseCanonical(s.String())
	if err != nil {
		t.Fatalf("reading back the canonical form %q: %v", s, err)
	}
	if again.String() != s.String() || again.IsAll() != s.IsAll() || again.IsGlobal() != s.IsGlobal() {
		t.Fatalf("canonical form %q reads back as %q", s, again)
	}
	if diff := cmp.Diff(s.Keys(), again.Keys()); diff != "" {
		t.Fatalf("keys of the canonical form %q differ:\n%s", s, diff)
	}
	if diff := cmp.Diff(s.Requirements(), again.Requirements()); diff != "" {
		t.Fatalf("requirements of the canonical form %q differ:\n%s", s, diff)
	}
}

func TestPropertyMatchAgreesWithNaiveEvaluation(t *testing.T) {
	tokens := newNaiveTokens()
	rapid.Check(t, func(t *rapid.T) {
		text := selectorText(t, 4)
		s, err := Parse(text)
		if err != nil {
			if len(text) > MaxLength {
				t.Skip("too long")
			}
			t.Fatalf("Parse(%q): %v", text, err)
		}
		checkCanonical(t, s)
		again, _ := ParseCanonical(s.String())
		for range 5 {
			labels := labelsNear(t, text)
			want := naive{labels}.text(tokens, text)
			if got := s.Match(labels); got != want {
				t.Fatalf("%q (%s) on %v: got %v, want %v", text, s, labels, got, want)
			}
			if got := again.Match(labels); got != want {
				t.Fatalf("canonical form %q of %q on %v: got %v, want %v", s, text, labels, got, want)
			}
			if want {
				checkRequirements(t, s, labels)
			}
		}
	})
}

// checkRequirements checks that labels which the selector matches fulfil all its requirements.
func checkRequirements(t *rapid.T, s *Selector, labels Map) {
	t.Helper()
	for _, r := range s.Requirements() {
		value, ok := labels[r.Key]
		if !ok || len(r.Values) > 0 && !slices.Contains(r.Values, value) {
			t.Fatalf("%q matches %v, which does not fulfil %v", s, labels, r)
		}
	}
}

func TestPropertyCombinators(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		aText, bText := selectorText(t, 2), selectorText(t, 2)
		a, err := ParseCanonical(aText)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseCanonical(bText)
		if err != nil {
			t.Fatal(err)
		}
		labels := labelsNear(t, aText+" "+bText)
		for _, c := range []struct {
			s    *Selector
			want bool
		}{
			{And(a, b), a.Match(labels) && b.Match(labels)},
			{Or(a, b), a.Match(labels) || b.Match(labels)},
			{Not(a), !a.Match(labels)},
			{And(a, Not(Or(a, b))), false},
		} {
			if got := c.s.Match(labels); got != c.want {
				t.Fatalf("%s on %v: got %v, want %v", c.s, labels, got, c.want)
			}
			checkCanonical(t, c.s)
		}
		if And(a, b).String() != And(b, a).String() {
			t.Fatalf("And depends on order: %s, %s", And(a, b), And(b, a))
		}
	})
}

// FuzzParse: no input makes the parser panic, an error points into the text, and what is accepted means the same to the
// naive evaluator and in canonical form.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "all()", "global()", "a == 'b'", `a!="b"`, "a in {'b', 'c'}", "a not in {}", "a notin{'b',}", "a contains 'b'",
		"a starts with 'b'", "a endswith 'b'", "!has(a) && (b == 'c' || !!has(d))", "a = 'b'", "a == 'b", "((has(a)", "has(a))", "in in {'in'}",
		"has(\xff)", "a == '\xff\x00'", "a == \"it's\"",
	} {
		f.Add(text, "a", "b", "c", "d")
	}
	tokens := newNaiveTokens()
	f.Fuzz(func(t *testing.T, text, key1, value1, key2, value2 string) {
		s, err := Parse(text)
		if err != nil {
			var parseError *Error
			if !errors.As(err, &parseError) || parseError.Position < 0 || parseError.Position > len(text) || parseError.Reason == "" {
				t.Fatalf("Parse(%q): %#v", text, err)
			}
			return
		}
		checkCanonical(t, s)
		if s.IsGlobal() {
			return
		}
		again, _ := ParseCanonical(s.String())
		for _, labels := range []Map{nil, {key1: value1}, {key1: value1, key2: value2}} {
			want := naive{labels}.text(tokens, text)
			if got := s.Match(labels); got != want {
				t.Fatalf("%q on %v: got %v, want %v", text, labels, got, want)
			}
			if got := again.Match(labels); got != want {
				t.Fatalf("canonical form %q of %q on %v: got %v, want %v", s, text, labels, got, want)
			}
		}
	})
}
