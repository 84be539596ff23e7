package live

import (
	"context"
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
)

func node() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}} }

func gnp() *v3.GlobalNetworkPolicy {
	return &v3.GlobalNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v3.GlobalNetworkPolicySpec{Selector: "all()"}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heard collects what a listener is told.
type heard struct {
	keys     []render.Key
	policies []render.PolicyRef
	demand   int
}

func listen(w *World) *heard {
	h := &heard{}
	w.OnKeys(func(keys []render.Key) { h.keys = append(h.keys, keys...) })
	w.OnPolicies(func(refs []render.PolicyRef) { h.policies = append(h.policies, refs...) })
	w.OnDemand(func() { h.demand++ })
	return h
}

func TestNothingComesOutBeforeOpen(t *testing.T) {
	w := New()
	early := listen(w)
	must(t, w.Set(gnp()))
	must(t, w.Set(node()))
	if len(early.keys)+len(early.policies)+early.demand > 0 || w.IsOpen() {
		t.Fatalf("heard %+v before all is known", early)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := w.Wait(ended); err == nil {
		t.Error("Wait returned although the World is not open")
	}

	w.Open()
	w.Open() // twice is once
	must(t, w.Wait(t.Context()))
	want := []render.Key{
		{Kind: render.KindPolicyProgram, Name: "gnp.p"},
		{Kind: render.KindNodeEndpoints, Name: "n"},
		{Kind: render.KindNodeNetwork, Name: "n"},
		{Kind: render.KindNodeState, Name: "n"},
	}
	ref := render.PolicyRef{Kind: policy.KindGlobalNetworkPolicy, Name: "p"}
	late := listen(w)
	for name, h := range map[string]*heard{"who listened before": early, "who came late": late} {
		if !slices.Equal(h.keys, want) || !slices.Equal(h.policies, []render.PolicyRef{ref}) || h.demand != 1 {
			t.Errorf("%s heard %+v", name, h)
		}
	}
	if report, ok := w.Policy(ref); !ok || !report.Finding.Accepted {
		t.Errorf("report is %+v, %v", report, ok)
	}
	if _, ok := w.Demand()["n"]; !ok {
		t.Errorf("demand is %v", w.Demand())
	}
}

// TestWhatIsGoneIsForgotten follows an operator that never writes: what it remembers must not grow.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	w := New()
	w.Open()
	must(t, w.Set(node()))
	must(t, w.Set(gnp()))
	rendered := map[render.Key]runtime.Object{}
	for key := range w.keys {
		rendered[key] = w.Desired(key)
		must(t, w.Set(rendered[key])) // another operator wrote it
	}
	must(t, w.Delete(gnp()))
	must(t, w.Delete(node()))
	if len(w.policies) != 0 {
		t.Errorf("remembers policies %v", w.policies)
	}
	for key, obj := range rendered {
		if got := w.Desired(key); got != nil {
			t.Errorf("%v is still wanted: %v", key, got)
		}
		if _, ok := w.keys[key]; !ok {
			t.Errorf("%v is in the API and forgotten", key)
		}
		must(t, w.Delete(obj))
	}
	if len(w.keys) != 0 {
		t.Errorf("remembers keys %v", w.keys)
	}
}

func TestUnknownTypesAreErrors(t *testing.T) {
	w := New()
	if err := w.Set(&corev1.Secret{}); err == nil {
		t.Error("a Secret was taken in")
	}
	if err := w.Delete(&corev1.Secret{}); err == nil {
		t.Error("a Secret was taken note of")
	}
}
