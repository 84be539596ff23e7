package render

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
)

// TestSelectorsOfPeersAreThereOnce: policies that name the same peer share its parsed selector, before and after they change, and as long as one
// of them is there.
func TestSelectorsOfPeersAreThereOnce(t *testing.T) {
	c := New()
	named := func(i int, peer string) *v3.NetworkPolicy {
		return &v3.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: fmt.Sprint("p", i)},
			Spec: v3.NetworkPolicySpec{
				Selector: fmt.Sprintf("app == 'a%d'", i), Types: []v3.PolicyType{v3.PolicyTypeIngress},
				Ingress: []v3.Rule{{Action: v3.Allow, Source: v3.EntityRule{Selector: peer}}},
			},
		}
	}
	once := func(want int) {
		t.Helper()
		found := map[any]bool{}
		for _, p := range c.policies {
			for id, what := range p.compiled.Sets {
				found[what.Selector] = true
				if what.Selector != c.sets[id].what.Selector {
					t.Errorf("%s has a selector of its own for set %s", p.compiled.Ref, id)
				}
			}
		}
		if len(found) != want {
			t.Errorf("%d selectors, want %d", len(found), want)
		}
	}
	set := func(p *v3.NetworkPolicy) {
		t.Helper()
		if err := c.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		set(named(i, "role == 'client'"))
	}
	once(1)
	set(named(0, `role in {"client"}`)) // the same in other words
	set(named(1, "role == 'other'"))
	once(2)
	if err := c.Delete(named(2, "")); err != nil {
		t.Fatal(err)
	}
	once(2)
	if got := len(c.policies[policy.Ref{Kind: policy.KindNetworkPolicy, Namespace: "team", Name: "p3"}].compiled.Sets); got != 1 {
		t.Errorf("p3 names %d sets", got)
	}
}
