package render

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
)

// TestPodsKeepWhatANodeThatIsGoneHad: they keep its blocks as long as their addresses may be in use.
func TestPodsKeepWhatANodeThatIsGoneHad(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(*corev1.Pod)
		gone bool // the pod
		want bool
	}{
		"a pod that runs":             {pod: func(*corev1.Pod) {}, want: true},
		"one that waits to start":     {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, want: true},
		"one that is to end":          {pod: func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, want: true},
		"one that has gone":           {pod: func(*corev1.Pod) {}, gone: true},
		"one that has succeeded":      {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }},
		"one that has failed":         {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }},
		"one of the node's network":   {pod: func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
		"one of another node's":       {pod: func(p *corev1.Pod) { p.Spec.NodeName = "other" }},
		"one that has no node as yet": {pod: func(p *corev1.Pod) { p.Spec.NodeName = "" }},
	} {
		for _, existed := range []bool{true, false} { // an operator that starts has not seen the node
			c := New()
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "lost"}}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "1"}, Spec: corev1.PodSpec{NodeName: "lost"}}
			tc.pod(p)
			if existed {
				give(t, c, n)
			}
			give(t, c, p)
			if existed {
				take(t, c, n)
			}
			if tc.gone {
				take(t, c, p)
			}
			if got := c.Bound(map[string]bool{"lost": true, "another": true}); got["lost"] != tc.want || got["another"] {
				t.Errorf("%s, whose node was seen: %v: bound are %v, want the lost node: %v", name, existed, got, tc.want)
			}
		}
	}
}

// TestWhichEndpointsThereAre: a pod of the same name that was made anew is another one.
func TestWhichEndpointsThereAre(t *testing.T) {
	c := New()
	give(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	give(t, c, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "1"}, Spec: corev1.PodSpec{NodeName: "n1"}})
	said := func(id string, uid types.UID) v1alpha1.EndpointStatus {
		return v1alpha1.EndpointStatus{ID: id, UID: uid}
	}
	got := c.Present(map[string][]v1alpha1.EndpointStatus{
		"n1":      {said("a/web", "1"), said("a/web", "0"), said("a/gone", "2")},
		"another": {said("a/web", "1")},
	})
	if len(got) != 1 || got["n1"] != 1 {
		t.Errorf("there are %v, want the one pod of n1", got)
	}
}
