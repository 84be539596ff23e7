package live

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

// state is a NodeState with the status of so many reports.
func state(node string, sequence int64) *v1alpha1.NodeState {
	return &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: v1alpha1.NodeStateStatus{Sequence: sequence}}
}

// said is the number of the report that counts beside the API; 0: none does.
func (w *World) said(node string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.reports[node]; r != nil && r.status != nil {
		return r.status.Sequence
	}
	return 0
}

// TestWhatCountsOfReports: the newest counts, whoever was told it, until the API says as much; and nothing is kept of nodes that are gone.
func TestWhatCountsOfReports(t *testing.T) {
	direct := func(sequence int64) func(*World) error {
		return func(w *World) error { return w.Report("n", &v1alpha1.NodeStateStatus{Sequence: sequence}) }
	}
	relayed := func(sequence int64) func(*World) error {
		return func(w *World) error { return w.Relayed("n", &v1alpha1.NodeStateStatus{Sequence: sequence}) }
	}
	api := func(sequence int64) func(*World) error {
		return func(w *World) error { return w.Set(state("n", sequence)) }
	}
	leaves := func(w *World) error { return w.ForgetReport("n") }
	goes := func(w *World) error { return w.Delete(state("n", 0)) }
	for name, tc := range map[string]struct {
		steps []func(*World) error
		want  int64
		// kept entries of nodes.
		kept int
	}{
		"the newest":                                         {[]func(*World) error{api(1), direct(2), relayed(3)}, 3, 1},
		"not an older one from another replica":              {[]func(*World) error{api(1), direct(3), relayed(2)}, 3, 1},
		"not an older one from here":                         {[]func(*World) error{api(1), relayed(3), direct(2)}, 3, 1},
		"not what the API says as well":                      {[]func(*World) error{api(3), relayed(3)}, 0, 1},
		"until the API says as much":                         {[]func(*World) error{api(1), relayed(3), api(3)}, 0, 1},
		"until the agent leaves":                             {[]func(*World) error{api(1), direct(2), leaves}, 0, 1},
		"what another replica heard since the agent left":    {[]func(*World) error{api(1), direct(2), relayed(3), leaves}, 3, 1},
		"what is heard here since it left another":           {[]func(*World) error{api(1), relayed(2), direct(3), leaves}, 0, 1},
		"nothing of a node that is gone":                     {[]func(*World) error{api(1), relayed(2), goes}, 0, 0},
		"nothing that comes from another replica after it":   {[]func(*World) error{api(1), relayed(2), goes, relayed(3)}, 0, 0},
		"nothing that is said here after it, once it leaves": {[]func(*World) error{api(1), goes, direct(3), leaves}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := New()
			must(t, w.Set(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}))
			w.Open()
			for _, step := range tc.steps {
				must(t, step(w))
			}
			if got := w.said("n"); got != tc.want {
				t.Errorf("report %d counts, want %d", got, tc.want)
			}
			if len(w.reports) != tc.kept {
				t.Errorf("%d nodes are remembered, want %d", len(w.reports), tc.kept)
			}
		})
	}
}
