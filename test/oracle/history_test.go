package oracle_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/oracle"
)

// store is what is written when everybody obeys Dirty and Desired.
type store map[render.Key]runtime.Object

func (s store) follow(c *render.Cluster) {
	for _, key := range c.Dirty() {
		if obj := c.Desired(key); obj != nil {
			s[key] = obj.DeepCopyObject()
		} else {
			delete(s, key)
		}
	}
}

// junk draws objects that are in the way for a while: earlier forms of the world's objects, and others.
func junk(t *rapid.T, w *oracle.World) []runtime.Object {
	other := drawWorld(t) // mostly the same names with other contents
	for _, pod := range other.Pods {
		if chance(t, 30, "same UID") {
			pod.UID += "-other"
		}
	}
	other.Tiers = append(other.Tiers, w.Tiers...)
	return objects(other)
}

func TestRenderedStateDoesNotDependOnHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		want := store{}
		fresh := render.New()
		final := objects(w)
		for _, o := range final {
			if err := fresh.Set(o); err != nil {
				t.Fatal(err)
			}
		}
		want.follow(fresh)

		got := store{}
		c := render.New()
		disturbances := junk(t, w)
		for _, o := range rapid.Permutation(append(disturbances, final...)).Draw(t, "first order") {
			if err := c.Set(o); err != nil {
				t.Fatal(err)
			}
			if chance(t, 20, "write in between") {
				got.follow(c)
			}
			if chance(t, 5, "delete in between") {
				if err := c.Delete(o); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, o := range rapid.Permutation(disturbances).Draw(t, "order of removal") {
			if err := c.Delete(o); err != nil {
				t.Fatal(err)
			}
			if chance(t, 10, "write in between") {
				got.follow(c)
			}
		}
		for _, o := range rapid.Permutation(final).Draw(t, "last order") {
			if err := c.Set(o); err != nil {
				t.Fatal(err)
			}
			if chance(t, 10, "write in between") {
				got.follow(c)
			}
		}
		got.follow(c)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("fed once (-) and with a history (+):\n%s", diff)
		}
		for _, o := range final {
			ref, ok := policy.RefOf(o)
			if !ok {
				continue
			}
			once, _ := fresh.Policy(ref)
			if lived, _ := c.Policy(ref); lived.Finding != once.Finding {
				t.Fatalf("policy %s: %+v, with a history %+v", ref, once.Finding, lived.Finding)
			}
		}
		demand := c.Demand()
		for name, n := range fresh.Demand() {
			if demand[name] != n {
				t.Fatalf("node %s: demand %d, with a history %d", name, n, demand[name])
			}
		}
	})
}
