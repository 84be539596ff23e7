package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

func TestHoldingsAreInOrder(t *testing.T) {
	pod := func(id, address string) v1alpha1.EndpointStatus {
		return v1alpha1.EndpointStatus{ID: id, Addresses: []string{address}}
	}
	a, b, c := pod("ns/a", "10.0.0.1"), pod("ns/b", "10.0.0.2"), pod("ns/c", "10.0.0.3")
	for name, tc := range map[string]struct{ said, want []v1alpha1.EndpointStatus }{
		"none":                    {},
		"in order":                {[]v1alpha1.EndpointStatus{a, b, c}, []v1alpha1.EndpointStatus{a, b, c}},
		"in no order":             {[]v1alpha1.EndpointStatus{c, a, b}, []v1alpha1.EndpointStatus{a, b, c}},
		"one twice, next to each": {[]v1alpha1.EndpointStatus{a, pod("ns/b", "10.0.0.9"), b, c}, []v1alpha1.EndpointStatus{a, b, c}},
		"one twice":               {[]v1alpha1.EndpointStatus{pod("ns/c", "10.0.0.9"), a, b, c}, []v1alpha1.EndpointStatus{a, b, c}},
	} {
		got := holdingsOf(tc.said)
		if d := cmp.Diff(tc.want, []v1alpha1.EndpointStatus(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		for _, want := range tc.want {
			if s, ok := got.of(want.ID); !ok || s.Addresses[0] != want.Addresses[0] {
				t.Errorf("%s: pod %s holds %v", name, want.ID, s.Addresses)
			}
		}
		if _, ok := got.of("ns/aa"); ok {
			t.Errorf("%s: a pod that the node does not know holds something", name)
		}
	}
}
