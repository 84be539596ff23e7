package agent

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConditionDisturbed says whether somebody else has lately changed what the agent keeps in the kernel. It was put right, but
// whoever does so may do it again.
const ConditionDisturbed = "Disturbed"

// Reasons of the condition Disturbed.
const (
	ReasonRestored    = "Restored"
	ReasonUndisturbed = "Undisturbed"
)

// disturbedFor is how long a disturbance is spoken of.
const disturbedFor = 10 * time.Minute

// disturbance is what others have done to the kernel's part that is the agent's.
type disturbance struct {
	policy, routes, tunnels             int64 // as the drivers count
	policyLast, routesLast, tunnelsLast time.Time
}

// noteDisturbances has to be called after the drivers were.
func (a *Agent) noteDisturbances() {
	d, now := &a.disturbance, time.Now()
	tunnels := int64(0)
	if a.Tunnels != nil {
		tunnels = a.Tunnels.Disturbances()
	}
	for _, part := range []struct {
		name  string
		count int64
		known *int64
		last  *time.Time
	}{
		{"policy", a.Policy.Disturbances(), &d.policy, &d.policyLast},
		{"routes", a.Routes.Disturbances(), &d.routes, &d.routesLast},
		{"tunnels", tunnels, &d.tunnels, &d.tunnelsLast},
	} {
		if more := part.count - *part.known; more > 0 {
			*part.known, *part.last = part.count, now
			a.Metrics.disturbed.WithLabelValues(part.name).Add(float64(more))
		}
	}
}

// disturbedCondition also sees to it that the loop looks again when it is to be another one.
func (a *Agent) disturbedCondition() metav1.Condition {
	now := time.Now()
	var parts []string
	for _, part := range []struct {
		what string
		last time.Time
	}{{"policy rules or sets", a.disturbance.policyLast}, {"routes", a.disturbance.routesLast}, {"tunnels", a.disturbance.tunnelsLast}} {
		if rest := disturbedFor - now.Sub(part.last); rest > 0 {
			parts = append(parts, part.what)
			a.timers.quiet.within(rest)
		}
	}
	if len(parts) == 0 {
		return metav1.Condition{
			Type: ConditionDisturbed, Status: metav1.ConditionFalse, Reason: ReasonUndisturbed,
			Message: "nobody else changes what the node agent keeps in the kernel", LastTransitionTime: transition(now),
		}
	}
	return metav1.Condition{
		Type: ConditionDisturbed, Status: metav1.ConditionTrue, Reason: ReasonRestored,
		Message: "in the last 10 minutes somebody else changed the " + strings.Join(parts, " and the ") +
			" of the node agent; they are what they should be again (metric manul_agent_disturbances_total)",
		LastTransitionTime: transition(now),
	}
}
