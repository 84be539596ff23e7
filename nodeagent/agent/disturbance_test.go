package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What others change in the kernel is put right, counted, and spoken of for ten minutes.
func TestDisturbances(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		condition := func() metav1.Condition {
			c := meta.FindStatusCondition(l.source.last(t).Status.Conditions, ConditionDisturbed)
			if c == nil {
				t.Fatal("no condition")
			}
			return *c
		}
		l.sync(l.state(1, nil, "n/a"))
		pause(time.Minute)
		if c := condition(); c.Status != metav1.ConditionFalse || c.Reason != ReasonUndisturbed {
			t.Errorf("at first: %+v", c)
		}
		reports := l.source.count()
		l.policy.changed <- struct{}{} // only a look
		pause(time.Minute)
		if got := l.source.count(); got != reports {
			t.Errorf("a look made %d reports", got-reports)
		}

		disturb := func(count *int64, changed chan struct{}) {
			l.policy.mu.Lock()
			l.routes.mu.Lock()
			*count += 2
			l.routes.mu.Unlock()
			l.policy.mu.Unlock()
			changed <- struct{}{}
			pause(time.Minute)
		}
		disturb(&l.policy.disturbed, l.policy.changed)
		since := condition().LastTransitionTime
		if c := condition(); c.Status != metav1.ConditionTrue || c.Reason != ReasonRestored || !strings.Contains(c.Message, "the policy rules or sets of") {
			t.Errorf("after a disturbance: %+v", c)
		}
		disturb(&l.routes.disturbed, l.routes.changed)
		pause(5 * time.Minute)
		if c := condition(); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "policy rules or sets and the routes") || c.LastTransitionTime != since {
			t.Errorf("after another: %+v, want it since %v", c, since)
		}
		pause(3*time.Minute + 30*time.Second)
		if c := condition(); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "the routes of") || strings.Contains(c.Message, "policy") {
			t.Errorf("ten minutes after the first: %+v", c)
		}
		pause(time.Minute)
		if c := condition(); c.Status != metav1.ConditionFalse {
			t.Errorf("ten minutes after the last: %+v", c)
		}
		if got := l.counted(t, "manul_agent_disturbances_total"); got["policy"] != 2 || got["routes"] != 2 {
			t.Errorf("counted: %v, want 2 of each", got)
		}
	})
}

// counted are the values of a counter by the value of its only label.
func (l *lab) counted(t *testing.T, name string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(l.agent.Metrics.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}
