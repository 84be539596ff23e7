package inputs

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/manul-net/manul/api/v1alpha1"
)

// written is the state of a node with some pods, each of which the agent gave an address.
func written(uid types.UID, generation int64, pods int, address string) *v1alpha1.NodeState {
	s := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{
		Name: "n1", UID: uid, Generation: generation, ResourceVersion: "77", Labels: map[string]string{"a": "b"},
	}}
	for i := range pods {
		id := fmt.Sprintf("ns/p%d", i)
		s.Spec.Endpoints = append(s.Spec.Endpoints, v1alpha1.Endpoint{
			ID: id, UID: "u", Identity: "i", Ingress: []v1alpha1.TierPolicies{{Tier: "default", Policies: []string{address}}},
		})
		s.Status.Endpoints = append(s.Status.Endpoints, v1alpha1.EndpointStatus{ID: id, Addresses: []string{address}})
	}
	s.Spec.Pools = []v1alpha1.Pool{{CIDR: "10.0.0.0/16", NATOutgoing: true}}
	s.Status.ObservedGeneration, s.Status.Applied = generation, map[string]string{"SetCatalog": "5"}
	return s
}

func sent(t testing.TB, s *v1alpha1.NodeState) []byte {
	t.Helper()
	s = s.DeepCopy()
	s.TypeMeta = metav1.TypeMeta{APIVersion: "manul.dev/v1alpha1", Kind: "NodeState"}
	s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "agent", FieldsV1: metav1.NewFieldsV1(`{"f:status":{}}`)}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestStatesAreReadOncePerGeneration: a spec that came before is the one that came before, and anything else is read.
func TestStatesAreReadOncePerGeneration(t *testing.T) {
	for _, c := range []struct {
		what   string
		known  *v1alpha1.NodeState
		comes  *v1alpha1.NodeState
		shared bool
	}{
		{"the first that is heard of a node", nil, written("u", 3, 5, "10.0.0.1"), false},
		{"a status of the same generation", written("u", 3, 5, "10.0.0.1"), written("u", 3, 5, "10.0.0.1"), true},
		{"a spec of the next", written("u", 3, 5, "10.0.0.1"), written("u", 4, 5, "10.0.0.2"), false},
		{"a spec of the next with many more pods", written("u", 3, 5, "10.0.0.1"), written("u", 4, 50, "10.0.0.2"), false},
		{"a spec of the next without pods", written("u", 3, 5, "10.0.0.1"), written("u", 4, 0, "10.0.0.2"), false},
		{"an older one, that a new watch brings", written("u", 3, 5, "10.0.0.1"), written("u", 2, 5, "10.0.0.2"), false},
		{"another object of the name", written("u", 3, 5, "10.0.0.1"), written("v", 3, 5, "10.0.0.2"), false},
		{"one whose changes nobody counts", written("u", 0, 5, "10.0.0.1"), written("u", 0, 5, "10.0.0.2"), false},
	} {
		t.Run(c.what, func(t *testing.T) {
			asked := ""
			s := States{Known: func(node string) *v1alpha1.NodeState { asked = node; return c.known }}
			got, err := s.Read(sent(t, c.comes))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.comes, got); d != "" {
				t.Errorf("(-sent +read):\n%s", d)
			}
			if asked != "n1" {
				t.Errorf("asked for what is known of %q", asked)
			}
			if c.known == nil || len(got.Spec.Endpoints) == 0 {
				return
			}
			if shared := &got.Spec.Endpoints[0] == &c.known.Spec.Endpoints[0]; shared != c.shared {
				t.Errorf("it shares the list of pods: %t, want %t", shared, c.shared)
			}
		})
	}
}

// FuzzStates: whatever comes is read as everywhere, whatever is known.
func FuzzStates(f *testing.F) {
	f.Add(sent(f, written("u", 3, 2, "10.0.0.1")), true)
	f.Add([]byte(`{"kind":"NodeState","metadata":{"name":"n1","uid":"u","generation":9},"spec":null,"status":{"endpoints":null}}`), true)
	f.Add([]byte(`{"metadata":{"resourceVersion":"5"},"spec":{"endpoints":[]},"Spec":{}}`), false)
	f.Add([]byte(`{"spec":{"endpoints":[{"id":3}]}}`), true)
	f.Add([]byte(`{"spec":{"endpoints":[{"id":"a"}]},"spec":{"podCIDRs":["b"]}}`), false)
	f.Fuzz(func(t *testing.T, text []byte, isKnown bool) {
		var known *v1alpha1.NodeState
		if isKnown {
			known = written("w", 3, 1, "10.0.0.7")
		}
		s := States{Known: func(string) *v1alpha1.NodeState { return known }}
		want := &v1alpha1.NodeState{}
		wantErr := kjson.Unmarshal(text, want)
		got, err := s.Read(text)
		if err != nil {
			if wantErr == nil && !errors.Is(err, errUnusual) && (want.Kind == "" || want.Kind == "NodeState") {
				t.Fatalf("not read: %v", err)
			}
			return
		}
		if wantErr != nil {
			return // in the managed fields
		}
		if want.UID == "w" && want.Generation == 3 && known != nil {
			want.Spec = known.Spec
		}
		want.ManagedFields, want.TypeMeta = nil, metav1.TypeMeta{}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("(-everywhere +here):\n%s", d)
		}
	})
}

// TestReadingAStatusTakesNoMemoryForPods: what a new status of a node with many pods costs does not grow with what its spec says of them.
func TestReadingAStatusTakesNoMemoryForPods(t *testing.T) {
	known := written("u", 3, 30, "10.0.0.1")
	text := sent(t, known)
	allocations := func(s States) float64 {
		return testing.AllocsPerRun(20, func() {
			if _, err := s.Read(text); err != nil {
				t.Fatal(err)
			}
		})
	}
	first := allocations(States{Known: func(string) *v1alpha1.NodeState { return nil }})
	again := allocations(States{Known: func(string) *v1alpha1.NodeState { return known }})
	if again > first/2 {
		t.Errorf("reading a state whose spec is known takes memory %.0f times, one that is not %.0f times", again, first)
	}
}

// TestWhatIsNoStateIsReadAsEverywhere: watches bring errors too.
func TestWhatIsNoStateIsReadAsEverywhere(t *testing.T) {
	s := States{Known: func(string) *v1alpha1.NodeState { return nil }}
	if _, err := s.Read([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":410}`)); err == nil {
		t.Error("a Status was taken for a NodeState")
	}
}
