package iptables

import (
	"sync/atomic"
	"time"
)

// The kernel tells nobody of changes of sets, nor of changes of rules in the legacy variant, so these are looked at now
// and then: seldom enough to take no more than a fiftieth of a core's time.
const (
	lookAtLeastEvery = time.Minute
	lookAtMostEvery  = 5 * time.Second
	lookShare        = 50
)

// watch tells when it is time to look.
type watch struct {
	due   atomic.Bool
	timer *time.Timer
	every time.Duration // at most
	share time.Duration // looking takes no more than one part in this many of the time
}

// newWatch makes a watch that calls tell when it is time, once for each call of again.
func newWatch(every time.Duration, tell func()) *watch {
	w := &watch{every: every, share: lookShare}
	w.timer = time.AfterFunc(lookAtLeastEvery, func() {
		w.due.Store(true)
		tell()
	})
	w.timer.Stop()
	return w
}

// again sets the time for the next look, after one that took some time.
func (w *watch) again(took time.Duration) {
	w.timer.Reset(min(max(w.every, w.share*took), max(w.every, lookAtLeastEvery)))
}

func (w *watch) stop() { w.timer.Stop() }
