package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// CalicoNodeStatuses ask the node that they name, and no other; several together ask all that each of them does.
func TestInquiries(t *testing.T) {
	c := New()
	ask := func(name, node string, period uint32, classes ...v3.NodeStatusClass) *v3.CalicoNodeStatus {
		return &v3.CalicoNodeStatus{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v3.CalicoNodeStatusSpec{Node: node, Classes: classes, UpdatePeriodSeconds: &period},
		}
	}
	check := func(what string, want *v1alpha1.Inquiry) {
		t.Helper()
		if diff := cmp.Diff(want, c.inquiryFor("a")); diff != "" {
			t.Errorf("%s: inquiry (-want +got):\n%s", what, diff)
		}
	}
	set := func(o *v3.CalicoNodeStatus) {
		if err := c.Set(o); err != nil {
			t.Fatal(err)
		}
	}
	check("nobody asks", nil)
	set(ask("other", "b", 5, "Routes"))
	check("another is asked", nil)
	set(ask("one", "a", 30, "BGP", "Agent"))
	check("one asks", &v1alpha1.Inquiry{PeriodSeconds: 30, Sessions: true})
	two := ask("two", "a", 5, "Routes")
	set(two)
	check("two ask", &v1alpha1.Inquiry{PeriodSeconds: 5, Sessions: true, Routes: true})
	set(ask("one", "a", 0, "BGP"))
	check("a period of 0 asks nothing", &v1alpha1.Inquiry{PeriodSeconds: 5, Routes: true})
	if err := c.Delete(two); err != nil {
		t.Fatal(err)
	}
	check("all are gone", nil)
	set(&v3.CalicoNodeStatus{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Spec: v3.CalicoNodeStatusSpec{Node: "a", Classes: []v3.NodeStatusClass{"Agent"}}})
	check("without a period", &v1alpha1.Inquiry{PeriodSeconds: 10})
}
