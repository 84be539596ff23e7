package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
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

// What is refused newly has pauses of its own: short ones at first, while what has been refused for long is left alone.
func TestEachRefusedItemHasPausesOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, []string{"gnp.a"}, "n/a"), l.program("gnp.a", 1), l.catalog(1, "s", "t"))
		l.policy.failWith(&tables.ItemError{Kind: tables.KindSet, Name: "s", Err: errors.New("too many")})
		l.set(l.program("gnp.a", 2, "s"))
		pause(31 * time.Minute)
		l.routes.failWith(&tables.ItemError{Kind: tables.KindRoute, Name: "10.0.0.0/26", Err: errors.New("busy")})
		l.set(&v1alpha1.NodeNetwork{ObjectMeta: l.meta("other", 1), Spec: v1alpha1.NodeNetworkSpec{Addresses: []string{"192.168.0.9"}, Blocks: []string{"10.0.0.0/26"}}})
		old, routes := l.policy.resynced(), l.routes.resynced()
		pause(20 * time.Second)
		if n := l.routes.resynced() - routes; n < 4 {
			t.Errorf("the new one was tried again %d times in 20 s, want some short pauses", n)
		}
		if n := l.policy.resynced() - old; n > 1 {
			t.Errorf("the old one was tried again %d times meanwhile", n)
		}
	})
}

func TestPausesOfWhatIsRefused(t *testing.T) {
	start := time.Unix(0, 0)
	err := func(name string) *tables.ItemError {
		return &tables.ItemError{Kind: tables.KindSet, Name: name, Err: errors.New("refused")}
	}
	t.Run("an item that is refused no more begins anew", func(t *testing.T) {
		r, now := &refused{}, start
		for range 5 {
			r.note([]*tables.ItemError{err("s")}, true, now, 0)
			now, _ = r.next()
		}
		if n := r.items[keyOf(err("s"))].n; n != 5 {
			t.Errorf("%d attempts are counted, want 5", n)
		}
		r.note(nil, true, now, 0)
		if _, due := r.next(); due || r.items != nil {
			t.Error("something is due although nothing is refused")
		}
		r.note([]*tables.ItemError{err("s")}, false, now, 0)
		if n := r.items[keyOf(err("s"))].n; n != 1 {
			t.Errorf("%d attempts are counted, want 1", n)
		}
	})
	t.Run("news about other things counts as no attempt", func(t *testing.T) {
		r := &refused{}
		r.note([]*tables.ItemError{err("s")}, false, start, 0)
		first, _ := r.next()
		for range 5 {
			if r.note([]*tables.ItemError{err("s")}, false, start, 0) {
				t.Error("it counts as one")
			}
		}
		if at, _ := r.next(); !at.Equal(first) {
			t.Errorf("it is due at %s, want %s as before", at, first)
		}
	})
	t.Run("one after the other comes to be refused, and a comparison takes a second", func(t *testing.T) {
		const took = time.Second
		r, now, compared := &refused{}, start, 0
		var all []*tables.ItemError
		for i := range 600 { // another each second
			all = append(all, err(fmt.Sprint(i)))
			retried := slices.ContainsFunc(all, func(e *tables.ItemError) bool { return r.due(e, now) })
			length := time.Duration(0)
			if retried {
				compared++
				length = took
			}
			r.note(all, retried, now, length)
			now = now.Add(time.Second)
		}
		if most := 600/(rest+1) + 1; compared == 0 || compared > most {
			t.Errorf("%d comparisons in ten minutes, want %d at most", compared, most)
		}
	})
}
