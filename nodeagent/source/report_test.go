package source

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/api/v1alpha1"
)

type write struct {
	at         time.Duration
	generation int64
}

// record runs a reporter that fails as long as failing gives true, and calls drive with it.
func record(t *testing.T, failing func(int) bool, drive func(report func(generation int64, urgent bool))) []write {
	t.Helper()
	var writes []write
	synctest.Test(t, func(t *testing.T) {
		start, attempts := time.Now(), 0
		r := newReporter(func(_ context.Context, s *v1alpha1.NodeStateStatus) error {
			attempts++
			if failing(attempts) {
				return errors.New("no API server")
			}
			writes = append(writes, write{time.Since(start), s.ObservedGeneration})
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx)
		drive(func(generation int64, urgent bool) {
			r.report(Report{Status: v1alpha1.NodeStateStatus{ObservedGeneration: generation}, Urgent: urgent})
			synctest.Wait()
		})
		pause(5 * time.Minute)
		cancel()
		synctest.Wait()
	})
	return writes
}

// pause lets the test's own time pass.
func pause(d time.Duration) { <-time.After(d) }

func never(int) bool { return false }

func TestReportsGoAtOnceWhenIdleAndOnceASecondOtherwise(t *testing.T) {
	got := record(t, never, func(report func(int64, bool)) {
		report(1, false)
		for g := range int64(20) {
			pause(99 * time.Millisecond)
			report(2+g, false)
		}
	})
	want := []write{{0, 1}, {time.Second, 11}, {2 * time.Second, 21}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(write{})); d != "" {
		t.Error(d)
	}
}

func TestUrgentReportsDoNotWait(t *testing.T) {
	got := record(t, never, func(report func(int64, bool)) {
		for g := range int64(5) {
			report(1+g, true)
		}
	})
	want := []write{{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(write{})); d != "" {
		t.Error(d)
	}
}

func TestUrgentReportsAreBoundedOnAverage(t *testing.T) {
	got := record(t, never, func(report func(int64, bool)) {
		for g := range int64(600) {
			report(1+g, true)
			pause(100 * time.Millisecond)
		}
	})
	if most := 60 + urgentBurst + 1; len(got) > most {
		t.Errorf("%d writes in a minute, want at most %d", len(got), most)
	}
	if last := got[len(got)-1].generation; last != 600 {
		t.Errorf("last written was %d, want the newest", last)
	}
}

func TestFailedReportsAreTriedAgainWithTheNewest(t *testing.T) {
	got := record(t, func(n int) bool { return n <= 6 }, func(report func(int64, bool)) {
		report(1, false)
		pause(time.Second)
		report(2, true)
	})
	if len(got) != 1 || got[0].generation != 2 {
		t.Fatalf("writes: %v, want the newest once", got)
	}
	if got[0].at > time.Minute {
		t.Errorf("written after %s", got[0].at)
	}
}

func TestNewReportIsTriedSoonerThanAFailedOne(t *testing.T) {
	got := record(t, func(n int) bool { return n <= 9 }, func(report func(int64, bool)) {
		report(1, false)
		pause(50 * time.Second) // the pause between attempts is long by now
		for g := range int64(12) {
			report(2+g, false)
			pause(time.Second)
		}
	})
	if len(got) == 0 || got[0].at > 60*time.Second {
		t.Errorf("writes: %v, want one soon after the API server came back", got)
	}
}

// TestWhatTheOperatorHasHeardIsWrittenAtLeisure: the operator hears everything by the stream, so the API is told for those who do not.
// A report that says only how far the node has come beyond one that is just being written takes its place when that fails, with the address that
// the other said: it waits no longer than that would have.
func TestAReportThatTakesThePlaceOfAFailedOneIsAsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(nil, slog.New(slog.DiscardHandler))
		r.heard = func() bool { return true }
		r.report(Report{Status: v1alpha1.NodeStateStatus{ObservedGeneration: 1}})
		address := v1alpha1.NodeStateStatus{ObservedGeneration: 1, Endpoints: []v1alpha1.EndpointStatus{{ID: "ns/pod", Addresses: []string{"10.0.0.1"}}}}
		r.take()
		r.report(Report{Status: address})
		failing := r.take()
		further := address
		further.ObservedGeneration = 2
		r.report(Report{Status: further})
		r.putBack(failing)
		if wait := time.Until(r.leisure); wait > leisure {
			t.Errorf("the address is written after %s, want %s at most", wait, leisure)
		}
		if r.take().Status.ObservedGeneration != 2 {
			t.Error("the newest report is not the one that is written")
		}
	})
}

func TestWhatTheOperatorHasHeardIsWrittenAtLeisure(t *testing.T) {
	address := func(a string) []v1alpha1.EndpointStatus {
		return []v1alpha1.EndpointStatus{{ID: "ns/pod", Addresses: []string{a}}}
	}
	type step struct {
		after  time.Duration
		status v1alpha1.NodeStateStatus
	}
	for what, tc := range map[string]struct {
		steps []step
		want  []write
	}{
		"the first report, which nobody knows anything of": {[]step{{0, v1alpha1.NodeStateStatus{ObservedGeneration: 1}}}, []write{{leisure, 1}}},
		"how far the node has come, which goes along with what follows soon": {
			[]step{
				{0, v1alpha1.NodeStateStatus{ObservedGeneration: 1}},
				{time.Minute, v1alpha1.NodeStateStatus{ObservedGeneration: 2, Applied: map[string]string{"SetCatalog": "7"}, Summary: v1alpha1.Summary{Endpoints: 1}}},
				{ample - time.Millisecond, v1alpha1.NodeStateStatus{ObservedGeneration: 3}},
			},
			[]write{{leisure, 1}, {time.Minute + ample, 3}},
		},
		"an address, of which replicas that do not write learn by the API": {
			[]step{
				{0, v1alpha1.NodeStateStatus{ObservedGeneration: 1}},
				{time.Minute, v1alpha1.NodeStateStatus{ObservedGeneration: 1, Endpoints: address("10.0.0.1")}},
			},
			[]write{{leisure, 1}, {time.Minute + leisure, 1}},
		},
		"an address soon after how far the node has come, which takes that along": {
			[]step{
				{0, v1alpha1.NodeStateStatus{ObservedGeneration: 1}},
				{time.Minute, v1alpha1.NodeStateStatus{ObservedGeneration: 2}},
				{100 * time.Millisecond, v1alpha1.NodeStateStatus{ObservedGeneration: 2, Endpoints: address("10.0.0.1")}},
			},
			[]write{{leisure, 1}, {time.Minute + 100*time.Millisecond + leisure, 2}},
		},
	} {
		t.Run(what, func(t *testing.T) {
			var writes []write
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := newReporter(func(_ context.Context, s *v1alpha1.NodeStateStatus) error {
					writes = append(writes, write{time.Since(start), s.ObservedGeneration})
					return nil
				}, slog.New(slog.DiscardHandler))
				r.heard = func() bool { return true }
				ctx, cancel := context.WithCancel(t.Context())
				go r.run(ctx)
				for _, s := range tc.steps {
					pause(s.after)
					r.report(Report{Status: s.status, Urgent: s.status.Endpoints != nil})
					synctest.Wait()
				}
				pause(time.Minute)
				cancel()
				synctest.Wait()
			})
			if d := cmp.Diff(tc.want, writes, cmp.AllowUnexported(write{})); d != "" {
				t.Error(d)
			}
		})
	}
}
