package stream

import (
	"math"
	"sync"
	"time"
)

const (
	// onTime: news that goes out within that is not late. A change that concerns some hundred nodes takes that long for the last of them, even
	// if there is nothing else to do.
	onTime = 20 * time.Millisecond
	// gatherFactor: news of a node is gathered for so many times as long as news is later than that, longestGathering at most.
	gatherFactor     = 8
	longestGathering = 2 * time.Second
	// weight of one piece of news in the mean: it is of several changes, for those to many nodes that one change concerns are all late but the
	// first. After forgetIn what is known of the load has lost two thirds of its weight.
	weight, forgetIn = 1.0 / 256, time.Second
)

// load tells how late news goes out for want of a processor: the time from when it could have gone out. As long as it is on time nobody
// waits; when more comes than can go out, it is later and later, and what several changes bring to one node is gathered, so that there are
// fewer messages.
type load struct {
	mu   sync.Mutex
	late float64 // seconds, a mean that fades
	at   time.Time
}

// note takes how late something went out.
func (l *load) note(late time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fade(now)
	l.late += (late.Seconds() - l.late) * weight
}

// spacing is the least time between two messages to one node now.
func (l *load) spacing(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fade(now)
	late := time.Duration(l.late * float64(time.Second))
	if late < onTime {
		return 0
	}
	return min(gatherFactor*(late-onTime), longestGathering)
}

// lateness is how long news waited for nothing but a processor until its stream went to take it: since is when it came, sent when the one before had
// been sent, and notBefore when it was to go out at the soonest. The wait for a turn at the board is not in it. How long an agent takes to read what it is sent does not count: the
// others are not to wait for a slow one.
func lateness(taken, since, sent, notBefore time.Time) time.Duration {
	ready := since
	for _, t := range []time.Time{sent, notBefore} {
		if t.After(ready) {
			ready = t
		}
	}
	return max(0, taken.Sub(ready))
}

// fade lets what was known of the load lose weight. The lock is held.
func (l *load) fade(now time.Time) {
	if passed := now.Sub(l.at); passed > 0 {
		l.late *= math.Exp(-passed.Seconds() / forgetIn.Seconds())
		l.at = now
	}
}
