package agent

import (
	"math/rand/v2"
	"time"
)

// timers are the loop's.
type timers struct {
	grace, resync                             *time.Timer
	apply, addresses, checkpoint, acknowledge *alarm
	quiet                                     *alarm // others' changes are long past
	bgp                                       *alarm // sessions are to be asked how they stand
	bridge                                    *alarm // routes have waited for BGP long enough
	inquiry                                   *alarm // the next report is due
	attachments                               *alarm // journal and kernel are to be compared
	switching                                 *alarm // what was put off of a change of encapsulation is due
}

func newTimers(o Options) timers {
	return timers{
		grace:       time.NewTimer(o.Grace),
		resync:      time.NewTimer(jittered(o.ResyncEvery)),
		acknowledge: newAlarm(),
		apply:       newAlarm(),
		addresses:   newAlarm(),
		checkpoint:  newAlarm(),
		quiet:       newAlarm(),
		bgp:         newAlarm(),
		bridge:      newAlarm(),
		inquiry:     newAlarm(),
		attachments: newAlarm(),
		switching:   newAlarm(),
	}
}

func (t *timers) stop() {
	for _, timer := range []*time.Timer{t.grace, t.resync, t.apply.timer, t.addresses.timer, t.checkpoint.timer, t.acknowledge.timer, t.quiet.timer, t.bgp.timer, t.bridge.timer, t.inquiry.timer, t.attachments.timer, t.switching.timer} {
		timer.Stop()
	}
}

// jittered spreads the nodes of a cluster: a fifth more or less.
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) //nolint:gosec // jitter
}

// alarm is a timer that is set or not. Setting it to an earlier time moves it, to a later one does not.
type alarm struct {
	timer *time.Timer
	at    time.Time // zero: not set
	// due: whoever set it wants the loop to act in the current step already.
	due bool
}

func newAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{timer: t}
}

// C yields when the alarm goes off.
func (a *alarm) C() <-chan time.Time { return a.timer.C }

// within sets the alarm to go off in d, unless it will earlier.
func (a *alarm) within(d time.Duration) {
	at := time.Now().Add(d)
	if !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	a.at = at
	a.timer.Reset(d)
}

// now makes the alarm due.
func (a *alarm) now() {
	a.due = true
	a.timer.Stop()
	a.at = time.Time{}
}

// fired takes note that C yielded.
func (a *alarm) fired() { a.due, a.at = true, time.Time{} }

// take tells whether the alarm is due, and unsets it.
func (a *alarm) take() bool {
	due := a.due
	if due {
		a.due, a.at = false, time.Time{}
		a.timer.Stop()
	}
	return due
}
