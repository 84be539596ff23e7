package render

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/api/v1alpha1"
)

// What all nodes have put into effect is the lowest of what each says, whatever order they came, went and spoke in.
func TestAcknowledgedByAllIsTheLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New()
		nodes, says := map[string]bool{}, map[string]string{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := fmt.Sprintf("node-%d", rapid.IntRange(0, 3).Draw(t, "node"))
			var err error
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				nodes[name] = true
				err = c.Set(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			case 1:
				delete(nodes, name)
				err = c.Delete(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			case 2:
				delete(says, name)
				err = c.Delete(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}})
			default:
				says[name] = fmt.Sprint(rapid.IntRange(1, 12).Draw(t, "version"))
				err = c.Set(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.NodeStateStatus{
					Applied: map[string]string{string(KindSetCatalog): says[name], string(KindNodeEndpoints): says[name]},
				}})
			}
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "ask") {
				want, any := "", false
				for n := range nodes {
					if v, ok := says[n]; ok && (!any || versionLess(v, want)) {
						want, any = v, true
					}
				}
				for _, kind := range []Kind{KindSetCatalog, KindNodeEndpoints} {
					if got, anybody := c.acknowledgedBy(kind); anybody != any || any && got != want {
						t.Fatalf("%s: acknowledged by all: got %q, %v, want %q, %v", kind, got, anybody, want, any)
					}
				}
			}
		}
	})
}
