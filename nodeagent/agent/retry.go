package agent

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/manul-net/manul/nodeagent/pace"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	applyRetryAtFirst  = 100 * time.Millisecond
	applyRetryAtLength = 30 * time.Second
	// refusedRetry is how often at most what the kernel refused is tried again in the end: it has little reason to change its mind.
	refusedRetry = 5 * time.Minute
)

// setRetry decides when the next attempt is due, after one that failed as a whole, tried again what had been refused alone, or was about
// other changes. News is no reason to try what was refused again, which compares all of its kind: drivers remember it, and look at
// what changed.
func (a *Agent) setRetry(failed, retried bool, before []*tables.ItemError, took time.Duration) {
	if !failed && len(a.items) == 0 {
		a.attempts, a.retryAt = 0, time.Time{}
		return
	}
	now := time.Now()
	switch {
	case failed || retried || a.attempts == 0:
		a.attempts++
		a.Metrics.failed()
		a.retryAt = now.Add(backoff(a.attempts, failed, took))
	case anyNew(before, a.items):
		a.Metrics.failed()
		if soon := now.Add(pace.Next(applyRetryAtFirst, took)); soon.Before(a.retryAt) {
			a.retryAt = soon
		}
	}
	a.timers.apply.within(max(0, a.retryAt.Sub(now)))
}

// resyncRefused has all of those kinds compared of which something was refused alone. Only of these: a session without its password is no
// reason to read all rules back.
func (a *Agent) resyncRefused() {
	if slices.ContainsFunc(a.items, isPolicy) {
		a.Policy.Resync()
	}
	if slices.ContainsFunc(a.items, isRoute) {
		a.Routes.Resync()
	}
	if slices.ContainsFunc(a.items, isTunnel) {
		a.resyncTunnels()
	}
	if slices.ContainsFunc(a.items, isSession) {
		a.resyncBGP()
	}
	if slices.ContainsFunc(a.items, func(e *tables.ItemError) bool { return isLimit(e) || isPacketLimit(e) }) {
		a.resyncBandwidth()
	}
}

// anyNew tells whether something is refused that was not refused before.
func anyNew(before, now []*tables.ItemError) bool {
	return slices.ContainsFunc(now, func(e *tables.ItemError) bool {
		return !slices.ContainsFunc(before, func(b *tables.ItemError) bool { return b.Kind == e.Kind && b.Name == e.Name })
	})
}

// backoff doubles up to a bound, half of it at random. What was refused alone keeps nothing else back, so trying it again may take no more than
// its part of the time: each attempt compares everything.
func backoff(attempts int, failed bool, took time.Duration) time.Duration {
	bound := pace.Next(refusedRetry, 2*took)
	if failed {
		bound = applyRetryAtLength
	}
	const doublings = 18 // 100 ms to 7 h
	d := min(bound, applyRetryAtFirst<<min(attempts-1, doublings))
	return d/2 + rand.N(d/2) //nolint:gosec // jitter
}
