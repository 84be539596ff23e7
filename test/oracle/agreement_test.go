package oracle_test

import (
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func TestRenderedStateDecidesAsTheUsersObjectsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		r := compile(t, w)
		if p, found := disagreement(w, r, packets(w)); found {
			users, _ := yaml.Marshal(w)
			programs, _ := yaml.Marshal(r)
			t.Fatalf("packet %+v: allowed by the users' objects: %t, by the rendered ones: %t\n%s\n%s", p, w.Allowed(p), r.Allowed(p), users, programs)
		}
	})
}
