package iptables

import (
	"sync/atomic"
	"time"

	"github.com/manul-net/manul/nodeagent/pace"
)

// lookEvery is how often, at most, it is looked for what the kernel tells nobody: changes of sets, and of rules in the legacy variant.
const lookEvery = 5 * time.Second

// lookAtLeastEvery bounds how long such a change may go unnoticed, however long a look takes: policy may be open meanwhile.
const lookAtLeastEvery = 10 * time.Minute

// watch tells when it is time to look.
type watch struct {
	due   atomic.Bool
	timer *time.Timer
	every time.Duration // at most
	next  func(every, took time.Duration) time.Duration
}

// newWatch makes a watch that calls tell when it is time, once for each call of again.
func newWatch(every time.Duration, tell func()) *watch {
	w := &watch{every: every, next: nextLook}
	w.timer = time.AfterFunc(time.Hour, func() {
		w.due.Store(true)
		tell()
	})
	w.timer.Stop()
	return w
}

// nextLook is in how long it is time again, after a look that took some time.
func nextLook(every, took time.Duration) time.Duration {
	return min(pace.Next(every, took), max(every, lookAtLeastEvery))
}

// again sets the time for the next look, after one that took some time.
func (w *watch) again(took time.Duration) { w.timer.Reset(w.next(w.every, took)) }

func (w *watch) stop() { w.timer.Stop() }
