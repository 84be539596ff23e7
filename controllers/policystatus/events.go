package policystatus

import (
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/render"
)

const (
	// maxNote is how many bytes an event may say; the API server refuses more.
	maxNote = 1024
	// oncePer is how long a policy that flaps says nothing about the same reason again. Its status says how it is.
	oncePer = time.Minute
	// eventsPerMinute bounds the events of all policies together: one node that fails may concern all of them.
	eventsPerMinute = 300
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

// announced bounds events. The zero value has announced nothing.
type announced struct {
	mu sync.Mutex
	// last event about a policy, by reason.
	last map[render.PolicyRef]map[string]time.Time
	// minute and count are of the events of all policies.
	minute time.Time
	count  int
}

// allow tells whether an event is due, and takes note of it.
func (a *announced) allow(ref render.PolicyRef, reason string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, ok := a.last[ref][reason]; ok && now.Sub(last) < oncePer {
		return false
	}
	if now.Sub(a.minute) >= time.Minute {
		a.minute, a.count = now, 0
	}
	if a.count >= eventsPerMinute {
		return false
	}
	a.count++
	if a.last == nil {
		a.last = map[render.PolicyRef]map[string]time.Time{}
	}
	if a.last[ref] == nil {
		a.last[ref] = map[string]time.Time{}
	}
	a.last[ref][reason] = now
	return true
}

// forget is for a policy that is gone.
func (a *announced) forget(ref render.PolicyRef) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.last, ref)
}

// announce writes the events that are due.
func (r *Reporter) announce(ref render.PolicyRef, about client.Object, notices []notice) {
	for _, n := range notices {
		if r.announced.allow(ref, n.reason, r.Now()) {
			r.Events.Eventf(about, nil, n.kind, n.reason, n.action, "%s", shortened(n.message))
		}
	}
}

// shortened fits a text into an event.
func shortened(text string) string {
	const more = "…"
	if len(text) <= maxNote {
		return text
	}
	cut := maxNote - len(more)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
