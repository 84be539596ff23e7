package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/nodeagent/source"
)

// TestNewsIsAppliedAtOnceAndGatheredWhileApplying: an agent that has nothing to do puts news into effect when it comes, and waits for no more. What
// comes while it does so is put into effect together, as soon as that is done.
func TestNewsIsAppliedAtOnceAndGatheredWhileApplying(t *testing.T) {
	const takes = 100 * time.Millisecond
	for _, tc := range []struct {
		what  string
		every time.Duration // a piece of news
		// applies, and when the last is in effect after it came.
		applies int
		behind  time.Duration
	}{
		{"now and then", time.Second, 10, takes},
		{"as fast as it is applied", takes, 10, takes},
		{"all at once", 0, 2, 2 * takes},
		{"ten times as fast as it is applied", takes / 10, 2, 2*takes - 9*takes/10},
	} {
		t.Run(tc.what, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lab) {
				l.sync(l.state(1, []string{"gnp.p"}, "n/a"), l.program("gnp.p", 1, "aa0"), l.catalog(1, "aa0"))
				l.policy.takes.Store(int64(takes))
				pause(time.Minute)
				before := l.policy.count()
				var last time.Time
				for i := range 10 {
					if i > 0 {
						pause(tc.every)
					}
					if i == 1 {
						synctest.Wait() // it is at it
					}
					last = time.Now()
					l.source.sink.Set(source.PolicyProgram, l.program("gnp.p", int64(i+2), "aa0", fmt.Sprintf("aa%d", i%2)))
					l.source.sink.Set(source.SetCatalog, l.catalog(int64(i+2), "aa0", "aa1", fmt.Sprintf("aa%d", i+2)))
				}
				l.waitFor(t, before+tc.applies)
				if behind := time.Since(last); behind != tc.behind {
					t.Errorf("the last was in effect after %s, want %s", behind, tc.behind)
				}
				pause(time.Second)
				if n := l.policy.count() - before; n != tc.applies {
					t.Errorf("ten pieces of news were put into effect %d times, want %d", n, tc.applies)
				}
			})
		})
	}
}

// waitFor waits until the kernel has been told so many times.
func (l *lab) waitFor(t *testing.T, applies int) {
	t.Helper()
	for range 10_000 {
		synctest.Wait()
		if l.policy.count() >= applies {
			return
		}
		pause(time.Millisecond)
	}
	t.Fatalf("the kernel was told %d times, want %d", l.policy.count(), applies)
}
