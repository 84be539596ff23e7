package policystatus

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
)

// Reasons of the condition Enforced. Those of Accepted are the findings of internal/policy.
const (
	// ReasonEnforced: every node that must enforce the policy does.
	ReasonEnforced = "Enforced"
	// ReasonNoEndpoints: the policy is valid and selects no endpoint, so that no node has to do anything.
	ReasonNoEndpoints = "NoEndpoints"
	// ReasonPending: some nodes have yet to put the policy into effect.
	ReasonPending = "Pending"
	// ReasonFailed: some nodes report why they cannot.
	ReasonFailed = "Failed"
	// ReasonStaged: the policy is only tried out.
	ReasonStaged = "Staged"
	// ReasonNotAccepted: the policy is not in force as it is written.
	ReasonNotAccepted = "NotAccepted"
)

// Reasons of the condition Degraded.
const (
	// ReasonNodesFail: some nodes report why they can't put the policy into effect.
	ReasonNodesFail = "NodesFail"
	// ReasonNoFailures: no node reports that it can't.
	ReasonNoFailures = "NoFailures"
)

const (
	// quick is how long a generation that was just compiled has to reach its nodes before "not yet" is worth a write. Nodes
	// take some milliseconds, and then one write says it all.
	quick = 100 * time.Millisecond
	// settle is how long a change of nodes lasts before it is worth a write: a node that gets there must not cost one for each policy.
	settle = time.Second
	// behind is how long nodes are behind a policy that was in force everywhere before that is worth a write: a pod that comes to another
	// node puts all its policies behind until the node's state is written, which takes a second while agents follow the stream, and must not cost
	// two writes for each of them.
	behind = 3 * time.Second
	// leisure is how long the number of endpoints to which a staged policy would apply differs before that is worth a write:
	// no pod that comes or goes may cost a write for every staged policy.
	leisure = time.Minute
	// maxNamed is how many nodes a message names.
	maxNamed = 5
)

// statusOf is what a report says in the terms of a policy's status, on top of the conditions that are there already.
func statusOf(report *render.PolicyReport, before []metav1.Condition) v3.PolicyStatus {
	conditions := append([]metav1.Condition(nil), before...)
	accepted := metav1.Condition{
		Type: v3.ConditionAccepted, Status: metav1.ConditionFalse,
		Reason: report.Finding.Reason, Message: report.Finding.Message, ObservedGeneration: report.Generation,
	}
	if report.Finding.Accepted {
		accepted.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&conditions, accepted)
	meta.SetStatusCondition(&conditions, enforced(report))
	if report.Staged {
		return v3.PolicyStatus{Conditions: conditions}
	}
	meta.SetStatusCondition(&conditions, degraded(report))
	return v3.PolicyStatus{
		Enforced:   fmt.Sprintf("%d/%d", report.Enforcing, report.Required),
		Conditions: conditions,
	}
}

func enforced(report *render.PolicyReport) metav1.Condition {
	c := metav1.Condition{Type: v3.ConditionEnforced, Status: metav1.ConditionFalse, ObservedGeneration: report.Generation}
	c.Message = fmt.Sprintf("%d of %d nodes", report.Enforcing, report.Required)
	switch {
	case report.Staged:
		c.Reason = ReasonStaged
		c.Message = "a staged policy is not enforced: see the condition Accepted for what it would apply to"
	case !report.Finding.Accepted:
		c.Reason = ReasonNotAccepted
		c.Message = "not in force as it is written: see the condition Accepted"
	case len(report.Failing) > 0:
		c.Reason = ReasonFailed
		c.Message += failures(report.Failing)
	case report.Enforcing < report.Required:
		c.Reason = ReasonPending
		c.Message += "; waiting for " + nodes(report.Lagging, report.Required-report.Enforcing)
	case report.Required == 0:
		c.Status, c.Reason = metav1.ConditionTrue, ReasonNoEndpoints
		c.Message += ": the policy selects no endpoint"
	default:
		c.Status, c.Reason = metav1.ConditionTrue, ReasonEnforced
	}
	return c
}

// degraded tells a policy that some node can't put into effect from one that only takes its time.
func degraded(report *render.PolicyReport) metav1.Condition {
	c := metav1.Condition{
		Type: v3.ConditionDegraded, Status: metav1.ConditionFalse, Reason: ReasonNoFailures,
		Message: "no node reports that it can't enforce the policy", ObservedGeneration: report.Generation,
	}
	if len(report.Failing) > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, ReasonNodesFail
		c.Message = strings.TrimPrefix(failures(report.Failing), "; ")
	}
	return c
}

// nodes names the first nodes and counts the others.
func nodes(names []string, all int) string {
	named := names[:min(len(names), maxNamed)]
	if all <= len(named) {
		return strings.Join(named, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(named, ", "), all-len(named))
}

// failures quotes the first nodes that report why they cannot enforce the policy.
func failures(failing []render.NodeFailure) string {
	var b strings.Builder
	for i, f := range failing {
		if i == maxNamed {
			b.WriteString("; other nodes fail as well")
			break
		}
		fmt.Fprintf(&b, "; %s: %s", f.Node, f.Message)
	}
	return b.String()
}

// same tells whether writing now over before would change anything.
func same(before, now *v3.PolicyStatus) bool { return equality.Semantic.DeepEqual(before, now) }

// patience is how long the difference between what is published and what is true may last before it is written; 0: write
// at once.
func patience(before, now *v3.PolicyStatus) time.Duration {
	was, is := condition(before, v3.ConditionEnforced), condition(now, v3.ConditionEnforced)
	accepted := condition(now, v3.ConditionAccepted)
	switch {
	case accepted.Status != metav1.ConditionTrue:
		return 0 // what the user got wrong is said at once
	case is.Reason == ReasonStaged && was.ObservedGeneration == is.ObservedGeneration:
		return leisure
	case is.Reason == ReasonStaged:
		return 0
	case was.ObservedGeneration != is.ObservedGeneration && is.Status != metav1.ConditionTrue:
		return quick
	case was.ObservedGeneration == is.ObservedGeneration && was.Status == metav1.ConditionTrue && is.Reason == ReasonPending:
		return behind
	case was.ObservedGeneration == is.ObservedGeneration && (was.Status == metav1.ConditionTrue || was.Status == is.Status):
		return settle
	}
	return 0 // in force at last, which is what people wait for
}

// condition returns the condition of the given type; a zero one when it is absent.
func condition(status *v3.PolicyStatus, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// rejectedAnew tells whether the policy has just been found wrong, or wrong in another way: worth an event.
func rejectedAnew(before, now *v3.PolicyStatus) bool {
	was, is := condition(before, v3.ConditionAccepted), condition(now, v3.ConditionAccepted)
	return is.Status == metav1.ConditionFalse &&
		(was.Status != metav1.ConditionFalse || was.Reason != is.Reason || was.Message != is.Message)
}

// programStatus is the same for the policy's program, with how far back the agents' acknowledgements reach.
func programStatus(report *render.PolicyReport, program *v1alpha1.PolicyProgram) v1alpha1.PolicyProgramStatus {
	status := statusOf(report, program.Status.Conditions)
	return v1alpha1.PolicyProgramStatus{
		ObservedGeneration: report.ProgramGeneration,
		RenderedVersion:    report.RenderedVersion,
		Enforced:           status.Enforced,
		Conditions:         status.Conditions,
	}
}

func sameProgram(before, now *v1alpha1.PolicyProgramStatus) bool {
	return equality.Semantic.DeepEqual(before, now)
}
