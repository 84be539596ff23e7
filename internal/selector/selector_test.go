package selector

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, text string) *Selector {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return s
}

// TestMatch is the specification of what selectors match.
func TestMatch(t *testing.T) {
	web := Map{"app": "web", "tier": "front-end", "empty": ""}
	tests := []struct {
		selector string
		labels   Map
		want     bool
	}{
		{"", nil, true},
		{" \t", web, true},
		{"all()", nil, true},
		{"all( )", web, true},
		{"!all()", web, false},
		{"global()", web, false},

		{"app == 'web'", web, true},
		{`app == "web"`, web, true},
		{"app=='web'", web, true},
		{"app\t==\t'web'", web, true},
		{"app == 'Web'", web, false},
		{"app == ' web'", web, false},
		{"App == 'web'", web, false},
		{"empty == ''", web, true},
		{"absent == ''", web, false},

		{"app != 'web'", web, false},
		{"app != 'db'", web, true},
		{"absent != 'web'", web, true},
		{"absent != ''", web, true},

		{"app in {'web', 'db'}", web, true},
		{"app in {'db', 'web',}", web, true},
		{"app in {'db'}", web, false},
		{"app in{'web'}", web, true},
		{"app in {}", web, false},
		{"absent in {''}", web, false},

		{"app not in {'web', 'db'}", web, false},
		{"app not in {'db'}", web, true},
		{"app notin {'db'}", web, true},
		{"app notin{'web'}", web, false},
		{"app not in {}", web, true},
		{"absent not in {'web'}", web, true},

		{"tier contains 'nt-e'", web, true},
		{"tier contains ''", web, true},
		{"tier contains 'x'", web, false},
		{"absent contains ''", web, false},
		{"tier starts with 'front'", web, true},
		{"tier startswith 'front'", web, true},
		{"tier starts\twith 'end'", web, false},
		{"absent starts with ''", web, false},
		{"tier ends with 'end'", web, true},
		{"tier endswith'end'", web, true},
		{"tier ends with 'front'", web, false},
		{"absent ends with ''", web, false},

		{"has(app)", web, true},
		{"has( app )", web, true},
		{"has(empty)", web, true},
		{"has(absent)", web, false},
		{"!has(app)", web, false},
		{"!has(absent)", web, true},
		{"! has(absent)", web, true},
		{"!!has(app)", web, true},
		{"!app == 'web'", web, false},
		{"!absent == 'web'", web, true},

		{"app == 'web' && tier == 'x'", web, false},
		{"app == 'web' || tier == 'x'", web, true},
		// && binds tighter than ||, ! tighter than both.
		{"has(app) || has(app) && has(absent)", web, true},
		{"(has(app) || has(app)) && has(absent)", web, false},
		{"!has(app) && has(absent) || has(tier)", web, true},
		{"!(has(app) && has(absent))", web, true},
		{"!has(app) || has(absent)", web, false},
		{"((((has(app)))))", web, true},

		// Words of the language are label keys where a key is expected.
		{"in in {'a'}", Map{"in": "a"}, true},
		{"not not in {'a'}", Map{"not": "a"}, false},
		{"all == 'a'", Map{"all": "a"}, true},
		{"has(has)", Map{"has": ""}, true},
		{"contains contains 'b'", Map{"contains": "abc"}, true},
		{"starts starts with 'a'", Map{"starts": "abc"}, true},
		{"1 == '1'", Map{"1": "1"}, true},
		{"projectcalico.org/name == 'a_b.c-d'", Map{"projectcalico.org/name": "a_b.c-d"}, true},

		// No escapes; each kind of quote may hold the other.
		{`a == "it's"`, Map{"a": "it's"}, true},
		{`a == 'say "x"'`, Map{"a": `say "x"`}, true},
		{`a == 'b\'`, Map{"a": `b\`}, true},
		{"a == '&& || ! { } ( )'", Map{"a": "&& || ! { } ( )"}, true},
		{"a == 'ü'", Map{"a": "ü"}, true},
	}
	for _, tt := range tests {
		s := mustParse(t, tt.selector)
		if got := s.Match(tt.labels); got != tt.want {
			t.Errorf("%q on %v: got %v, want %v", tt.selector, tt.labels, got, tt.want)
		}
	}
}

func TestCanonicalForm(t *testing.T) {
	tests := map[string][]string{
		"all()":                          {"", "  ", "all()", "all( )", "(all())", "!!all()", "has(a) || all()", "a not in {}"},
		"!all()":                         {"!all()", "a in {}", "has(a) && !all()"},
		"global()":                       {"global()", " global( ) ", "(global())"},
		"a == 'b'":                       {"a == 'b'", `a=="b"`, "a in {'b'}", "a in {'b','b'}", "!a != 'b'", "(a == 'b') && a == 'b'", "all() && a == 'b'"},
		"a != 'b'":                       {"a != 'b'", "!a == 'b'", "!(a in {'b'})", "a not in {'b'}", "a notin {'b',}"},
		"a in {'b', 'c'}":                {"a in {'b', 'c'}", `a in{"c",'b','c'}`, "!(a notin {'c','b'})"},
		"a not in {'b', 'c'}":            {"a not in {'b', 'c'}", "a notin {'c', 'b'}", "!a in {'b','c'}"},
		"!has(a)":                        {"!has(a)", "! has( a )", "!!!has(a)", "!(has(a))"},
		"!(a contains 'b')":              {"!a contains 'b'", "!(a contains \"b\")"},
		"a starts with 'b'":              {"a starts with 'b'", "a startswith'b'"},
		"a ends with 'b'":                {"a ends with 'b'", "a ends\t with'b'"},
		`a == "it's"`:                    {`a == "it's"`},
		"has(a) && has(b) && has(c)":     {"has(c) && (has(b) && has(a))", "(has(a)&&has(b))&&has(c)&&has(a)"},
		"has(a) && has(b) || has(c)":     {"has(c) || (has(b) && has(a))"},
		"(has(a) || has(b)) && has(c)":   {"has(c) && (has(b) || has(a))"},
		"!(has(a) || has(b))":            {"!(has(b) || has(a))"},
		"!(has(a) && has(b)) && has(c)":  {"has(c) && !(has(a) && has(b))"},
		"a == 'b' || b contains 'x-y_z'": {"(b contains 'x-y_z')||(a=='b')"},
	}
	for want, texts := range tests {
		for _, text := range append(texts, want) {
			if got := mustParse(t, text).String(); got != want {
				t.Errorf("canonical form of %q: got %q, want %q", text, got, want)
			}
		}
	}
}

func TestZeroSelectorIsAll(t *testing.T) {
	var s Selector
	if !s.IsAll() || !s.Match(Map{}) || s.String() != "all()" {
		t.Errorf("zero Selector: IsAll %v, Match %v, String %q", s.IsAll(), s.Match(Map{}), s.String())
	}
}

func TestErrors(t *testing.T) {
	key := strings.Repeat("k", MaxKeyLength)
	tests := []struct {
		selector string
		want     Error
	}{
		{"a = 'b'", Error{2, `expected an operator after label key a, found "="`, "equality is written ==, with two signs"}},
		{"a", Error{1, "expected an operator after label key a, found end of selector", hintOperators}},
		{"a exists", Error{2, `expected an operator after label key a, found "exists"`, hintOperators}},
		{"a not == 'b'", Error{2, `expected an operator after label key a, found "not"`, hintOperators}},
		{"a starts 'b'", Error{2, `expected an operator after label key a, found "starts"`, hintOperators}},
		{"not has(a)", Error{4, `expected an operator after label key not, found "has"`, "negation is written !"}},
		{"app: web", Error{3, `expected an operator after label key app, found ":"`, "a selector is one string of terms, not a map"}},
		{"has (a)", Error{4, `expected an operator after label key has, found "("`, "no blank may stand between a function and its parenthesis: has(...)"}},
		{"a == b", Error{5, `expected a string in quotes, found "b"`, "values stand in quotes: 'b'"}},
		{"a == ", Error{5, "expected a string in quotes, found end of selector", "values stand in quotes"}},
		{"a == 'b", Error{5, "unterminated string starting at 5", "close it with '"}},
		{`a == "b'`, Error{5, "unterminated string starting at 5", `close it with "`}},
		{"'a' == 'b'", Error{0, `expected a label key, a function or an opening parenthesis, found "'"`, "label keys have no quotes: key == 'value'"}},
		{"a in ('b')", Error{5, `expected a list in braces, found "("`, "lists are written {'a', 'b'}"}},
		{"a in {'b' 'c'}", Error{10, `expected a comma or a closing brace, found "'"`, "lists are written {'a', 'b'}"}},
		{"a in {'b', c}", Error{11, `expected a string in quotes, found "c"`, "values stand in quotes: 'c'"}},
		{"a in {'b',", Error{10, "expected a string in quotes, found end of selector", "values stand in quotes"}},
		{"a in {,}", Error{6, `expected a string in quotes, found ","`, "values stand in quotes"}},
		{"any()", Error{0, "unknown function any()", hintFunctions}},
		{"has(a) && exists(b)", Error{10, "unknown function exists()", hintFunctions}},
		{"has()", Error{4, `expected a label key, found ")"`, ""}},
		{"has('a')", Error{4, `expected a label key, found "'"`, "label keys have no quotes: has(key)"}},
		{"has(a", Error{5, "expected a closing parenthesis of has(), found end of selector", ""}},
		{"all(a)", Error{4, `expected a closing parenthesis of all(), found "a"`, ""}},
		{"(has(a)", Error{7, "expected a closing parenthesis for the one opened at 0, found end of selector", ""}},
		{"has(a))", Error{6, `expected &&, || or the end, found ")"`, "there is no opening parenthesis for it"}},
		{"()", Error{1, `expected a label key, a function or an opening parenthesis, found ")"`, ""}},
		{"has(a) has(b)", Error{7, `expected &&, || or the end, found "has"`, ""}},
		{"has(a) & has(b)", Error{7, `expected &&, || or the end, found "&"`, "conjunction is written &&, with two signs"}},
		{"has(a) | has(b)", Error{7, `expected &&, || or the end, found "|"`, "disjunction is written ||, with two signs"}},
		{"has(a), has(b)", Error{6, `expected &&, || or the end, found ","`, "terms are joined by && or ||"}},
		{"has(a) and has(b)", Error{7, `expected &&, || or the end, found "and"`, "conjunction is written &&"}},
		{"has(a) OR has(b)", Error{7, `expected &&, || or the end, found "OR"`, "disjunction is written ||"}},
		{"has(a) &&", Error{9, "expected a label key, a function or an opening parenthesis, found end of selector", ""}},
		{"&& has(a)", Error{0, `expected a label key, a function or an opening parenthesis, found "&"`, ""}},
		{"!", Error{1, "expected a label key, a function or an opening parenthesis, found end of selector", ""}},
		{"has(a)\n&& has(b)", Error{6, `expected &&, || or the end, found "\n"`, hintLineBreak}},
		{"has(a) &&\nhas(b)", Error{9, `expected a label key, a function or an opening parenthesis, found "\n"`, hintLineBreak}},
		{"ä == 'b'", Error{0, `expected a label key, a function or an opening parenthesis, found "ä"`, ""}},
		{key + "k == 'a'", Error{0, "label key too long: 513 characters, at most 512 are allowed", ""}},
		{"has( " + key + "k)", Error{5, "label key too long: 513 characters, at most 512 are allowed", ""}},
		{"global() && has(a)", Error{0, "global() cannot be combined with anything", "it may stand only alone"}},
		{"has(a) || global()", Error{10, "global() cannot be combined with anything", "it may stand only alone"}},
		{"!global()", Error{1, "global() cannot be combined with anything", "it may stand only alone"}},
		{"!!global()", Error{2, "global() cannot be combined with anything", "it may stand only alone"}},
		{"global() || all()", Error{0, "global() cannot be combined with anything", "it may stand only alone"}},
		{"a == '" + strings.Repeat("ü", MaxLength-6) + "'", Error{6 + 2*(MaxLength-6), "selector too long: 1025 characters, at most 1024 are allowed", "put a label that stands for the group on the objects and select by it"}},
		{strings.Repeat("(", 500) + "all()" + strings.Repeat(")", 500), Error{MaxDepth, "parentheses nested too deep", "at most 100 levels are allowed"}},
		{strings.Repeat("!", MaxLength), Error{MaxLength, "expected a label key, a function or an opening parenthesis, found end of selector", ""}},
	}
	for _, tt := range tests {
		s, err := Parse(tt.selector)
		var got *Error
		if !errors.As(err, &got) {
			t.Errorf("Parse(%q): got selector %v and error %v, want *Error", tt.selector, s, err)
			continue
		}
		if diff := cmp.Diff(tt.want, *got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", tt.selector, diff)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := Parse("a = 'b'")
	want := `parsing selector: at position 2: expected an operator after label key a, found "=" (equality is written ==, with two signs)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("k", MaxKeyLength) + " == 'a'",
		"a == '" + strings.Repeat("ü", MaxLength-7) + "'",
		strings.Repeat("(", MaxDepth) + "has(a)" + strings.Repeat(")", MaxDepth),
		strings.Repeat("!", MaxLength-6) + "has(a)",
	} {
		mustParse(t, text)
	}
}

func TestKeys(t *testing.T) {
	tests := map[string][]string{
		"":                                     nil,
		"global()":                             nil,
		"b == 'x' && (a in {'y'} || !has(b))":  {"a", "b"},
		"!(c contains 'x' && a ends with 'y')": {"a", "c"},
		// What cannot decide anything is not a key: nobody needs to look at it.
		"has(a) || all()": nil,
	}
	for text, want := range tests {
		if diff := cmp.Diff(want, mustParse(t, text).Keys()); diff != "" {
			t.Errorf("keys of %q (-want +got):\n%s", text, diff)
		}
	}
}

func TestRequirements(t *testing.T) {
	tests := map[string][]Requirement{
		"":                                      nil,
		"a != 'b'":                              nil,
		"!has(a)":                               nil,
		"a == 'b'":                              {{"a", []string{"b"}}},
		"has(a) && b in {'y', 'x'} && c != 'z'": {{"b", []string{"x", "y"}}, {"a", nil}},
		"a contains 'x' && b starts with 'y'":   {{"a", nil}, {"b", nil}},
		"a == 'x' || a == 'y' && b == 'z'":      {{"a", []string{"x", "y"}}},
		"a == 'x' || has(a)":                    {{"a", nil}},
		"a == 'x' || b == 'y'":                  nil,
		"(a == 'x' || b == 'y') && (a == 'z')":  {{"a", []string{"z"}}},
		"a == 'x' && b == 'y' || b == 'v' && has(a)": {{"a", nil}, {"b", []string{"v", "y"}}},
	}
	for text, want := range tests {
		if diff := cmp.Diff(want, mustParse(t, text).Requirements()); diff != "" {
			t.Errorf("requirements of %q (-want +got):\n%s", text, diff)
		}
	}
}

func TestCombinators(t *testing.T) {
	a, b := Equal("a", "1"), Has("b")
	tests := []struct {
		got  *Selector
		want string
	}{
		{All(), "all()"},
		{a, "a == '1'"},
		{In("a", "2", "1", "2"), "a in {'1', '2'}"},
		{In("a"), "!all()"},
		{And(a), "a == '1'"},
		{And(b, All(), a), "a == '1' && has(b)"},
		{And(Or(b, a), a), "a == '1' && (a == '1' || has(b))"},
		{Or(a, All()), "all()"},
		{Not(a), "a != '1'"},
		{Not(Not(a)), "a == '1'"},
		{Not(And(a, b)), "!(a == '1' && has(b))"},
		{And(a, mustParse(t, "global()")), "!all()"},
	}
	for _, tt := range tests {
		if tt.got.String() != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestCombinatorsLeaveTheirOperandsAlone(t *testing.T) {
	values := []string{"z", "y"}
	in := In("a", values...)
	if diff := cmp.Diff([]string{"z", "y"}, values); diff != "" {
		t.Errorf("In changed its arguments:\n%s", diff)
	}
	and := And(Has("z"), Has("a"))
	before := and.String()
	for range 3 {
		And(and, in, Has("b"))
		Or(and, Not(and))
	}
	if and.String() != before || !and.Match(Map{"a": "", "z": ""}) {
		t.Errorf("operand changed from %q to %q", before, and)
	}
}

func TestUnwritableValueIsUnlikeAnyOther(t *testing.T) {
	odd := Equal("a", `'"`)
	if s, err := ParseCanonical(odd.String()); err == nil {
		t.Errorf("%s was read as %s", odd, s)
	}
	if !odd.Match(Map{"a": `'"`}) {
		t.Errorf("%s does not match its own value", odd)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	s := mustParse(t, "(a == 'b' || c not in {'d', 'e', 'f'}) && x contains 'y' && !has(z) && v starts with 'w' && q ends with 'r'")
	var labels Labels = Map{"a": "c", "c": "x", "x": "xyz", "v": "was", "q": "qr"}
	if !s.Match(labels) {
		t.Fatal("the selector does not match what it was made for")
	}
	if n := testing.AllocsPerRun(100, func() { s.Match(labels) }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("projectcalico.org/namespace == 'yaobank' && app in {'customer', 'summary', 'database'} && !has(legacy)"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	s := mustParse(b, "projectcalico.org/namespace == 'yaobank' && app in {'customer', 'summary', 'database'} && !has(legacy)")
	var labels Labels = Map{"projectcalico.org/namespace": "yaobank", "app": "summary", "version": "v1"}
	b.ReportAllocs()
	for b.Loop() {
		s.Match(labels)
	}
}
