package policystatus

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/announce"
	"github.com/manul-net/manul/internal/render"
)

// notice is an event to be.
type notice struct {
	kind, reason, action, message string
}

// news are the transitions that are worth an event: wrong, or wrong in another way; right again; in force on all nodes; failing on
// some; failing no longer.
func news(before, now *v3.PolicyStatus) []notice {
	var out []notice
	if is := condition(now, v3.ConditionAccepted); rejectedAnew(before, now) {
		out = append(out, notice{corev1.EventTypeWarning, is.Reason, "Compile", is.Message})
	} else if was := condition(before, v3.ConditionAccepted); was.Status == metav1.ConditionFalse && is.Status == metav1.ConditionTrue {
		out = append(out, notice{corev1.EventTypeNormal, is.Reason, "Compile", is.Message})
	}
	was, is := condition(before, v3.ConditionDegraded), condition(now, v3.ConditionDegraded)
	if is.Status != was.Status && (is.Status == metav1.ConditionTrue || was.Status == metav1.ConditionTrue) {
		kind := corev1.EventTypeNormal
		if is.Status == metav1.ConditionTrue {
			kind = corev1.EventTypeWarning
		}
		out = append(out, notice{kind, is.Reason, "Enforce", is.Message})
	}
	was, is = condition(before, v3.ConditionEnforced), condition(now, v3.ConditionEnforced)
	if is.Status == metav1.ConditionTrue && is.Reason == ReasonEnforced && (was.Status != metav1.ConditionTrue || was.ObservedGeneration != is.ObservedGeneration) {
		out = append(out, notice{corev1.EventTypeNormal, is.Reason, "Enforce", is.Message})
	}
	return out
}

// announce writes the events that are due.
func (r *Reporter) announce(ref render.PolicyRef, about client.Object, notices []notice) {
	for _, n := range notices {
		if r.announced.Allow(ref, n.reason, r.Now()) {
			r.Events.Eventf(about, nil, n.kind, n.reason, n.action, "%s", announce.Note(n.message))
		}
	}
}
