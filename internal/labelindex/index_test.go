package labelindex

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/internal/selector"
)

func parse(t testing.TB, text string) *selector.Selector {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recorder keeps the matches as reported, and fails when a report says what was known.
type recorder struct {
	matches map[match]bool
	log     []string
	problem string
}

type match struct {
	sel  string
	item int
}

func newRecorder() (*recorder, *Index[int, string]) {
	r := &recorder{matches: map[match]bool{}}
	return r, New(r.onMatch)
}

func (r *recorder) onMatch(sel string, item int, matches bool) {
	m := match{sel, item}
	if r.matches[m] == matches {
		r.problem = fmt.Sprintf("%v reported %v twice", m, matches)
	}
	if matches {
		r.matches[m] = true
	} else {
		delete(r.matches, m)
	}
	r.log = append(r.log, fmt.Sprintf("%s %d %v", sel, item, matches))
}

func (r *recorder) take() []string {
	log := r.log
	slices.Sort(log)
	r.log = nil
	return log
}

func TestChanges(t *testing.T) {
	r, x := newRecorder()
	steps := []struct {
		name string
		do   func()
		want []string
	}{
		{"item without selectors", func() { x.SetItem(1, map[string]string{"app": "web", "v": "1"}) }, nil},
		{"selector by value", func() { x.SetSelector("web", parse(t, "app == 'web'")) }, []string{"web 1 true"}},
		{"selector for all", func() { x.SetSelector("all", parse(t, "")) }, []string{"all 1 true"}},
		{"selector by absence", func() { x.SetSelector("no-v", parse(t, "!has(v)")) }, nil},
		{"selector for nothing", func() { x.SetSelector("none", parse(t, "app in {}")) }, nil},
		{"global selector", func() { x.SetSelector("global", parse(t, "global()")) }, nil},
		{"second item", func() { x.SetItem(2, map[string]string{"app": "db"}) }, []string{"all 2 true", "no-v 2 true"}},
		{"same labels again", func() { x.SetItem(2, map[string]string{"app": "db"}) }, nil},
		{"same selector otherwise written", func() { x.SetSelector("web", parse(t, `app in {"web"}`)) }, nil},
		{"labels change", func() { x.SetItem(1, map[string]string{"app": "db"}) }, []string{"no-v 1 true", "web 1 false"}},
		{"selector moves to another value", func() { x.SetSelector("web", parse(t, "app == 'db'")) }, []string{"web 1 true", "web 2 true"}},
		{"selector widens", func() { x.SetSelector("web", parse(t, "has(app)")) }, nil},
		{"selector narrows to nothing", func() { x.SetSelector("web", parse(t, "app in {}")) }, []string{"web 1 false", "web 2 false"}},
		{"item goes", func() { x.DeleteItem(1) }, []string{"all 1 false", "no-v 1 false"}},
		{"item goes again", func() { x.DeleteItem(1) }, nil},
		{"selector goes", func() { x.DeleteSelector("all") }, []string{"all 2 false"}},
		{"selector goes again", func() { x.DeleteSelector("all") }, nil},
	}
	for _, step := range steps {
		step.do()
		if diff := cmp.Diff(step.want, r.take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if items, selectors := x.Len(); items != 1 || selectors != 4 {
		t.Errorf("got %d items and %d selectors, want 1 and 4", items, selectors)
	}
}

// TestEmptyAgainHoldsNothing: what is gone leaves no trace in memory.
func TestEmptyAgainHoldsNothing(t *testing.T) {
	_, x := newRecorder()
	for i := range 10 {
		x.SetItem(i, map[string]string{"a": fmt.Sprint(i), "b": "x"})
		x.SetSelector(fmt.Sprint(i), parse(t, fmt.Sprintf("a in {'%d', 'z'} || a == 'y'", i)))
		x.SetSelector(fmt.Sprint("has", i), parse(t, fmt.Sprintf("has(k%d)", i)))
	}
	for i := range 10 {
		x.DeleteSelector(fmt.Sprint(i))
		x.DeleteItem(i)
		x.DeleteSelector(fmt.Sprint("has", i))
	}
	if n := len(x.labels) + len(x.items) + len(x.selectors) + len(x.unbound); n != 0 {
		t.Errorf("%d entries are left: %v", n, x.labels)
	}
}

// TestCostIsInProportion: a selector that demands a rare label is no candidate for items without it, even if it demands a
// common one too, whichever of the two came first.
func TestCostIsInProportion(t *testing.T) {
	for _, selectorsFirst := range []bool{false, true} {
		_, x := newRecorder()
		set := func() {
			for i := range 100 {
				x.SetSelector(fmt.Sprint(i), parse(t, fmt.Sprintf("all == 'k8s' && app == 'app-%d'", i)))
			}
		}
		if selectorsFirst {
			set()
		}
		for i := range 100 {
			x.SetItem(i, map[string]string{"all": "k8s", "app": fmt.Sprintf("app-%d", i)})
		}
		if !selectorsFirst {
			set()
		}
		for i := range 100 {
			if n := len(slices.Collect(x.candidateSelectors(x.items[i].labels))); n > 2 {
				t.Fatalf("selectors first %v: item %d has %d candidates", selectorsFirst, i, n)
			}
		}
	}
}

// crowd is an index with selectors that came before all items, and all demand a label that every item has.
func crowd(t testing.TB, selectors int) *Index[int, int] {
	t.Helper()
	x := New(func(int, int, bool) {})
	for i := range selectors {
		x.SetSelector(i, parse(t, fmt.Sprintf("all == 'k8s' && app == 'app-%d'", i)))
	}
	return x
}

// crowded is how many of them are still found under that label, or under none.
func crowded(x *Index[int, int]) int {
	n := 0
	for _, r := range x.selectors {
		if r.requirement.Key != "app" {
			n++
		}
	}
	return n
}

func crowdLabels(i int) map[string]string {
	return map[string]string{"all": "k8s", "app": fmt.Sprintf("app-%d", i)}
}

// TestNoChangePaysForAllSelectors: where many labels come after the selectors, these are placed anew, a few with each change, and all of them
// before labels are twice as many.
func TestNoChangePaysForAllSelectors(t *testing.T) {
	const selectors = 10_000
	x := crowd(t, selectors)
	// So that they crowd under the label that everything has, whatever was best while there were no items.
	for id, r := range x.selectors {
		x.unregister(id, r)
		r.requirement = selector.Requirement{Key: "all", Values: []string{"k8s"}}
		x.register(id, r)
		x.selectors[id] = r
	}
	most := 0
	for i := range 2*firstPlacing + 1 {
		before := crowded(x)
		x.SetItem(i, crowdLabels(i))
		most = max(most, before-crowded(x))
	}
	if n := crowded(x); n != 0 {
		t.Errorf("with %d labels %d selectors are where they were", 2*firstPlacing, n)
	}
	if bound := selectors / firstPlacing; most > bound {
		t.Errorf("one change placed %d selectors anew, want at most %d", most, bound)
	}
	if x.placing.rest != nil {
		t.Error("the list of the selectors to be placed is kept")
	}
}

// TestPlacingGoesOnWithoutNewLabels: changes of items that bring no labels place selectors too, and those that go meanwhile are no harm.
func TestPlacingGoesOnWithoutNewLabels(t *testing.T) {
	const selectors = 10 * firstPlacing * leastStep
	x := crowd(t, selectors)
	for i := range firstPlacing {
		x.SetItem(i, crowdLabels(i))
	}
	if len(x.placing.rest) == 0 {
		t.Fatal("all are placed: there is nothing to see")
	}
	for i := range selectors / 2 {
		x.DeleteSelector(i)
	}
	for i := 0; x.placing.rest != nil; i++ {
		if i > selectors {
			t.Fatalf("after %d changes %d selectors wait", i, len(x.placing.rest))
		}
		x.SetItem(firstPlacing, crowdLabels(i%2))
	}
	if _, n := x.Len(); n != selectors/2 {
		t.Errorf("%d selectors, want %d", n, selectors/2)
	}
}

// TestPropertyAgreesWithBruteForce runs random operations and compares the reported matches, and what the index answers,
// with every selector tried on every item.
func TestPropertyAgreesWithBruteForce(t *testing.T) {
	texts := []string{
		"", "global()", "a in {}", "has(a)", "!has(a)", "a == '1'", "a != '1'", "a in {'1','2'}", "a not in {'1','2'}", "b == '1' && a == '2'",
		"a == '1' || b == '2'", "a == '1' || a == '2' && has(b)", "a contains '1'", "b starts with '2' && !has(c)", "(has(a) || has(b)) && c ends with '1'",
		"!(a == '1' && b == '1')", "has(a) && has(b) && has(c)",
	}
	rapid.Check(t, func(t *rapid.T) {
		r, x := newRecorder()
		items, selectors := map[int]map[string]string{}, map[string]*selector.Selector{}
		item := rapid.IntRange(0, 5)
		sel := rapid.SampledFrom([]string{"p", "q", "r", "s"})
		labels := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"1", "2", "21"}))
		t.Repeat(map[string]func(*rapid.T){
			"SetItem": func(t *rapid.T) {
				id, l := item.Draw(t, "item"), labels.Draw(t, "labels")
				items[id] = l
				x.SetItem(id, maps.Clone(l))
			},
			"DeleteItem": func(t *rapid.T) {
				id := item.Draw(t, "item")
				delete(items, id)
				x.DeleteItem(id)
			},
			"SetSelector": func(t *rapid.T) {
				id, text := sel.Draw(t, "selector"), rapid.SampledFrom(texts).Draw(t, "text")
				s, err := selector.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				selectors[id] = s
				x.SetSelector(id, s)
			},
			"DeleteSelector": func(t *rapid.T) {
				id := sel.Draw(t, "selector")
				delete(selectors, id)
				x.DeleteSelector(id)
			},
			"": func(t *rapid.T) {
				if r.problem != "" {
					t.Fatal(r.problem)
				}
				want, bySelector, byItem := map[match]bool{}, map[match]bool{}, map[match]bool{}
				for s, parsed := range selectors {
					for i, l := range items {
						if parsed.Match(selector.Map(l)) {
							want[match{s, i}] = true
						}
					}
					for i := range x.Items(s) {
						bySelector[match{s, i}] = true
					}
				}
				for i := range items {
					for s := range x.Selectors(i) {
						byItem[match{s, i}] = true
					}
				}
				for name, got := range map[string]map[match]bool{"reported": r.matches, "Items": bySelector, "Selectors": byItem} {
					if !maps.Equal(want, got) {
						t.Fatalf("%s: got %v, want %v", name, got, want)
					}
				}
			},
		})
	})
}

// BenchmarkPlacing brings the label with which the selectors are begun to be placed anew, under 10,000 of them.
func BenchmarkPlacing(b *testing.B) {
	const selectors, labels = 10_000, firstPlacing * placingGrowth * placingGrowth
	for b.Loop() {
		b.StopTimer()
		x := crowd(b, selectors)
		for i := range labels - 1 {
			x.SetItem(i, crowdLabels(i))
		}
		runtime.GC() // or that of the selectors' making is in the time
		b.StartTimer()
		x.SetItem(labels, crowdLabels(labels))
	}
}

// BenchmarkSetItem changes the labels of one pod among many, under many policies.
func BenchmarkSetItem(b *testing.B) {
	matches := 0
	x := New(func(int, int, bool) { matches++ })
	labels := func(i int) map[string]string {
		return map[string]string{
			"projectcalico.org/namespace": fmt.Sprintf("ns-%d", i%500), "projectcalico.org/orchestrator": "k8s",
			"app": fmt.Sprintf("app-%d", i%2000), "version": fmt.Sprint(i % 7),
		}
	}
	for i := range 100_000 {
		x.SetItem(i, labels(i))
	}
	for i := range 5_000 {
		x.SetSelector(i, parse(b, fmt.Sprintf("projectcalico.org/namespace == 'ns-%d' && app == 'app-%d' && projectcalico.org/orchestrator == 'k8s'", i%500, i%2000)))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		x.SetItem(n%100_000, labels(n+1))
		n++
	}
}
