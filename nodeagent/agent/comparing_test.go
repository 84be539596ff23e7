package agent

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/nodeagent/pace"
	"github.com/manul-net/manul/nodeagent/tables"
)

// Comparing everything with the kernel, as often as it is due, takes no more than its part of the time, however much there is to compare.
func TestComparisonsTakeTheirPartOfTheTime(t *testing.T) {
	for _, c := range []struct {
		takes    time.Duration
		day      [2]int // comparisons, at least and at most
		failWith error
	}{
		{takes: time.Millisecond, day: [2]int{230, 350}},
		{takes: time.Second, day: [2]int{42, 45}}, // every 2,000 s
		{takes: 5 * time.Second, day: [2]int{8, 10}},
		// What is refused alone is tried again, each time with a comparison. (The first attempts follow each other within minutes.)
		{takes: time.Second, day: [2]int{30, 100}, failWith: &tables.ItemError{Kind: tables.KindSet, Name: "s", Err: errors.New("refused")}},
	} {
		bubble(t, func(t *testing.T, l *lab) {
			l.sync(l.state(1, nil, "n/a"))
			pause(10 * time.Minute)
			l.policy.takes.Store(int64(c.takes))
			l.policy.failWith(c.failWith)
			before := l.policy.count()
			pause(24 * time.Hour)
			if n := l.policy.count() - before; n < c.day[0] || n > c.day[1] {
				t.Errorf("%d comparisons in a day when each takes %s (refused: %v), want %d to %d", n, c.takes, c.failWith, c.day[0], c.day[1])
			}
			before = l.policy.count()
			pause(5 * 24 * time.Hour)
			share := float64(time.Duration(l.policy.count()-before)*c.takes) / float64(5*24*time.Hour)
			most := 1.1 / pace.Part
			if c.failWith != nil {
				most *= 2 // it is compared because it is time, and because of what was refused
			}
			if share > most {
				t.Errorf("comparisons of %s (refused: %v) took %.4f %% of the time", c.takes, c.failWith, 100*share)
			}
		})
	}
}

// Asking the kernel for the interfaces of attachments is paced, too.
func TestLooksForForgottenAttachmentsTakeTheirPartOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &slowKernel{}
		l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) { o.Attachments = kernel })
		defer l.stop()
		l.sync(l.state(1, nil, "n/a"))
		pause(24 * time.Hour)
		if n := kernel.looks.Load(); n < 18 || n > 24 {
			t.Errorf("%d looks of 2 s in a day, want about one in 4,000 s", n)
		}
	})
}

type slowKernel struct{ looks atomic.Int32 }

func (k *slowKernel) Marked() (map[string]string, error) {
	k.looks.Add(1)
	pause(2 * time.Second)
	return nil, nil
}

func (*slowKernel) Gone() <-chan struct{} { return nil }
