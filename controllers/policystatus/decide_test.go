package policystatus

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/internal/render"
)

func report(generation int64, enforcing, required int, lagging ...string) *render.PolicyReport {
	return &render.PolicyReport{
		Finding:    policy.Finding{Accepted: true, Reason: policy.ReasonAccepted, Message: "fine"},
		Generation: generation, Enforcing: enforcing, Required: required, Lagging: lagging,
	}
}

func rejected(generation int64, message string) *render.PolicyReport {
	r := report(generation, 0, 0)
	r.Finding = policy.Finding{Reason: policy.ReasonInvalidSelector, Message: message}
	return r
}

func TestEnforced(t *testing.T) {
	for name, tc := range map[string]struct {
		report  *render.PolicyReport
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		"everywhere":      {report(1, 2, 2), metav1.ConditionTrue, ReasonEnforced, "2 of 2 nodes"},
		"selects nothing": {report(1, 0, 0), metav1.ConditionTrue, ReasonNoEndpoints, "0 of 0 nodes: the policy selects no endpoint"},
		"one node lags":   {report(1, 1, 2, "node2"), metav1.ConditionFalse, ReasonPending, "1 of 2 nodes; waiting for node2"},
		"many nodes lag": {
			report(1, 0, 7, "a", "b", "c", "d", "e", "f", "g"), metav1.ConditionFalse, ReasonPending,
			"0 of 7 nodes; waiting for a, b, c, d, e and 2 more",
		},
		"staged": {
			&render.PolicyReport{Finding: policy.Finding{Accepted: true}, Generation: 1, Staged: true}, metav1.ConditionFalse, ReasonStaged,
			"a staged policy is not enforced: see the condition Accepted for what it would apply to",
		},
		"rejected": {rejected(1, "no"), metav1.ConditionFalse, ReasonNotAccepted, "not in force as it is written: see the condition Accepted"},
		"a node fails": {
			&render.PolicyReport{
				Finding: policy.Finding{Accepted: true}, Generation: 1, Enforcing: 1, Required: 2,
				Failing: []render.NodeFailure{{Node: "node2", Message: "no space left"}},
			}, metav1.ConditionFalse, ReasonFailed, "1 of 2 nodes; node2: no space left",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := enforced(tc.report)
			if got.Status != tc.status || got.Reason != tc.reason || got.Message != tc.message || got.ObservedGeneration != 1 {
				t.Errorf("got %s %s %q of generation %d", got.Status, got.Reason, got.Message, got.ObservedGeneration)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	status := func(r *render.PolicyReport) v3.PolicyStatus { return statusOf(r, nil) }
	staged := func(generation int64, endpoints int) v3.PolicyStatus {
		r := report(generation, 0, 0)
		r.Staged, r.Finding.Message = true, fmt.Sprintf("would apply to %d endpoints", endpoints)
		return statusOf(r, nil)
	}
	for name, tc := range map[string]struct {
		before, now v3.PolicyStatus
		want        time.Duration
	}{
		"new, not in force yet":             {v3.PolicyStatus{}, status(report(1, 0, 2)), quick},
		"new, in force already":             {v3.PolicyStatus{}, status(report(1, 2, 2)), 0},
		"new, rejected":                     {v3.PolicyStatus{}, status(rejected(1, "no")), 0},
		"edited, not in force yet":          {status(report(1, 2, 2)), status(report(2, 0, 2)), quick},
		"edited, in force already":          {status(report(1, 2, 2)), status(report(2, 2, 2)), 0},
		"edited, rejected":                  {status(report(1, 2, 2)), status(rejected(2, "no")), 0},
		"staged, new":                       {v3.PolicyStatus{}, staged(1, 1), 0},
		"staged, edited":                    {staged(1, 1), staged(2, 1), 0},
		"staged, one pod more":              {staged(1, 1), staged(1, 2), leisure},
		"pending, further":                  {status(report(1, 0, 2)), status(report(1, 1, 2)), settle},
		"pending, done":                     {status(report(1, 0, 2)), status(report(1, 2, 2)), 0},
		"in force, a pod on another node":   {status(report(1, 2, 2)), status(report(1, 2, 3)), behind},
		"in force, on another node as well": {status(report(1, 2, 2)), status(report(1, 3, 3)), settle},
	} {
		t.Run(name, func(t *testing.T) {
			if got := patience(&tc.before, &tc.now); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestStatusIsStable(t *testing.T) {
	first := statusOf(report(3, 1, 2, "node2"), nil)
	if second := statusOf(report(3, 1, 2, "node2"), first.Conditions); !same(&first, &second) {
		t.Errorf("the same report over its own status changes it: %+v, %+v", first, second)
	}
	if first.Enforced != "1/2" {
		t.Errorf("enforced is %q, want 1/2", first.Enforced)
	}
}

func TestRejectedAnew(t *testing.T) {
	none, fine := v3.PolicyStatus{}, statusOf(report(1, 1, 1), nil)
	bad := statusOf(rejected(2, "bad selector"), fine.Conditions)
	again := statusOf(rejected(3, "bad selector"), bad.Conditions)
	otherwise := statusOf(rejected(4, "bad port"), bad.Conditions)
	for name, tc := range map[string]struct {
		before, now *v3.PolicyStatus
		want        bool
	}{
		"accepted":                    {&none, &fine, false},
		"rejected from the beginning": {&none, &bad, true},
		"rejected after an edit":      {&fine, &bad, true},
		"rejected for the same":       {&bad, &again, false},
		"rejected for something else": {&bad, &otherwise, true},
		"mended":                      {&bad, &fine, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := rejectedAnew(tc.before, tc.now); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
