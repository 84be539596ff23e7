package policystatus

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
)

// failing is a report on a policy that the nodes can't enforce.
func failing(generation int64, required int, nodes ...string) *render.PolicyReport {
	r := report(generation, required-len(nodes), required)
	for _, name := range nodes {
		r.Failing = append(r.Failing, render.NodeFailure{Node: name, Message: "no space left"})
	}
	return r
}

func TestDegraded(t *testing.T) {
	for name, tc := range map[string]struct {
		report  *render.PolicyReport
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		"everywhere":   {report(1, 2, 2), metav1.ConditionFalse, ReasonNoFailures, "no node reports that it can't enforce the policy"},
		"a node lags":  {report(1, 1, 2, "node2"), metav1.ConditionFalse, ReasonNoFailures, "no node reports that it can't enforce the policy"},
		"a node fails": {failing(1, 2, "node2"), metav1.ConditionTrue, ReasonNodesFail, "node2: no space left"},
		"many nodes fail": {
			failing(1, 7, "a", "b", "c", "d", "e", "f"), metav1.ConditionTrue, ReasonNodesFail,
			"a: no space left; b: no space left; c: no space left; d: no space left; e: no space left; other nodes fail as well",
		},
	} {
		t.Run(name, func(t *testing.T) {
			status := statusOf(tc.report, nil)
			got := condition(&status, v3.ConditionDegraded)
			if got.Status != tc.status || got.Reason != tc.reason || got.Message != tc.message || got.ObservedGeneration != 1 {
				t.Errorf("got %+v", got)
			}
		})
	}
	staged := statusOf(&render.PolicyReport{Finding: policy.Finding{Accepted: true}, Generation: 1, Staged: true}, nil)
	if got := condition(&staged, v3.ConditionDegraded); got.Type != "" {
		t.Errorf("a staged policy, which no node enforces, has %+v", got)
	}
}

func TestNews(t *testing.T) {
	none := v3.PolicyStatus{}
	status := func(r *render.PolicyReport) *v3.PolicyStatus { s := statusOf(r, nil); return &s }
	for name, tc := range map[string]struct {
		before, now *v3.PolicyStatus
		want        string
	}{
		"a new policy that waits":     {&none, status(report(1, 0, 2)), ""},
		"in force":                    {status(report(1, 0, 2)), status(report(1, 2, 2)), "Normal Enforced"},
		"in force at once":            {&none, status(report(1, 2, 2)), "Normal Enforced"},
		"a new generation in force":   {status(report(1, 2, 2)), status(report(2, 2, 2)), "Normal Enforced"},
		"on another node as well":     {status(report(1, 2, 2)), status(report(1, 3, 3)), ""},
		"no endpoint":                 {status(report(1, 2, 2)), status(report(1, 0, 0)), ""},
		"wrong":                       {status(report(1, 2, 2)), status(rejected(2, "bad")), "Warning " + policy.ReasonInvalidSelector},
		"wrong for the same":          {status(rejected(1, "bad")), status(rejected(2, "bad")), ""},
		"right again":                 {status(rejected(1, "bad")), status(report(2, 0, 2)), "Normal Accepted"},
		"right again and in force":    {status(rejected(1, "bad")), status(report(2, 2, 2)), "Normal Accepted, Normal Enforced"},
		"a node fails":                {status(report(1, 2, 2)), status(failing(1, 2, "node2")), "Warning NodesFail"},
		"a node fails from the start": {&none, status(failing(1, 2, "node2")), "Warning NodesFail"},
		"another node fails as well":  {status(failing(1, 2, "node2")), status(failing(1, 2, "node1", "node2")), ""},
		"nodes fail no longer":        {status(failing(1, 2, "node2")), status(report(1, 2, 2)), "Normal NoFailures, Normal Enforced"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, n := range news(tc.before, tc.now) {
				got = append(got, n.kind+" "+n.reason)
			}
			if text := strings.Join(got, ", "); text != tc.want {
				t.Errorf("got %q, want %q", text, tc.want)
			}
		})
	}
}
