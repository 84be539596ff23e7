package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

// While an item is refused, news is put into effect without a comparison of all that there is: the drivers look at what changed. What was
// refused is tried again on its own time, with a comparison, and the status tells of it throughout.
func TestNewsComparesNothingForWhatWasRefused(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1), l.catalog(1, "s", "t"))
		l.policy.failWith(&tables.ItemError{Kind: tables.KindSet, Name: "s", Err: errors.New("too many")})
		l.set(l.program("gnp.a", 2, "s"))
		pause(30 * time.Minute) // tried again seldom by now

		const news = 50
		applied, compared := l.policy.count(), l.policy.resynced()
		for i := range news {
			l.set(l.program("gnp.a", int64(3+i), []string{"t", "s"}[i%2]))
			pause(time.Millisecond)
		}
		if n := l.policy.count() - applied; n < news {
			t.Errorf("%d pieces of news were put into effect by %d applies", news, n)
		}
		// The time at which it is tried again may fall among the news, and so may that of the regular comparison.
		if n := l.policy.resynced() - compared; n > 2 {
			t.Errorf("%d comparisons of everything for %d pieces of news", n, news)
		}
		compared = l.policy.resynced()
		pause(10 * time.Minute)
		if n := l.policy.resynced() - compared; n < 2 {
			t.Errorf("what was refused was tried again %d times in ten minutes", n)
		}
		if f := l.source.last(t).Status.Failures; len(f) != 1 || f[0].Name != "s" {
			t.Errorf("failures in status: %+v", f)
		}

		l.policy.failWith(nil)
		pause(10 * time.Minute)
		if f := l.source.last(t).Status.Failures; len(f) > 0 {
			t.Errorf("failures after the kernel took it: %+v", f)
		}
	})
}

// What is refused newly is tried again soon, however long something else has been refused.
func TestWhatIsRefusedNewlyIsTriedSoon(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1), l.catalog(1, "s", "t"))
		old := &tables.ItemError{Kind: tables.KindSet, Name: "s", Err: errors.New("too many")}
		l.policy.failWith(old)
		l.set(l.program("gnp.a", 2, "s"))
		pause(30 * time.Minute)
		l.policy.failWith(errors.Join(old, &tables.ItemError{Kind: string(source.PolicyProgram), Name: "gnp.a", Err: errors.New("busy")}))
		compared := l.policy.resynced()
		l.set(l.program("gnp.a", 3, "t"))
		pause(time.Second)
		if n := l.policy.resynced() - compared; n == 0 {
			t.Error("not tried again within a second")
		}
	})
}
