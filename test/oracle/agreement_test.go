package oracle_test

import (
	"testing"

	"pgregory.net/rapid"
)

// askInMemory is how often a cluster that fails is made smaller.
const askInMemory = 5000

func TestRenderedStateDecidesAsTheUsersObjectsDo(t *testing.T) {
	covered := newCoverage()
	var last *failure
	defer func() { last.explain(t) }()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		turn := upTo(t, 100, "turn")
		r, err := compile(w)
		if err != nil {
			t.Fatal(err)
		}
		tables, err := r.Tables(w.Network())
		if err != nil {
			t.Fatal(err)
		}
		covered.world(w)
		users, rend, tab := w.Users(), r.Evaluator(w.Network()), tables.Evaluator(w.Network())
		for _, f := range flows(w, turn) {
			u, v, x := users.Verdict(f), rend.Verdict(f), tab.Verdict(f)
			covered.flow(f, u)
			if !u.Equal(v) || !u.Equal(x) {
				last = &failure{world: w, flow: f, differs: differs, most: askInMemory}
				t.Fatalf("%s\nusers: %s\nrendered: %s\ntables: %s", f, u, v, x)
			}
		}
	})
	covered.report(t)
}
