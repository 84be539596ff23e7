package oracle_test

import (
	"testing"

	"pgregory.net/rapid"
)

func TestRenderedStateDecidesAsTheUsersObjectsDo(t *testing.T) {
	counts := map[bool]int{}
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
		users, rend, tab := w.Users(), r.Evaluator(w.Network()), tables.Evaluator(w.Network())
		for _, f := range flows(w, turn) {
			u, v, x := users.Verdict(f), rend.Verdict(f), tab.Verdict(f)
			counts[u.Arrived]++
			if !u.Equal(v) || !u.Equal(x) {
				t.Fatalf("%s\nusers: %s\nrendered: %s\ntables: %s\n%s", f, u, v, x, w.Manifests())
			}
		}
	})
	t.Log(counts)
}
