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
	// rest is how many times as long as such an attempt took nothing refused is tried again: things that come to be refused one after the other
	// take at most a twentieth of a processor.
	rest = 19
)

// refused is what the kernel refused alone: each item is tried again in pauses of its own.
type refused struct {
	items map[itemKey]attempts
	// notBefore is how long nothing is tried again after a comparison, however many items there are.
	notBefore time.Time
}

type itemKey struct{ kind, name string }

// attempts are how often an item was tried in vain, and when it is due again.
type attempts struct {
	n  int
	at time.Time
}

func keyOf(e *tables.ItemError) itemKey { return itemKey{e.Kind, e.Name} }

// due tells whether an item is to be tried again.
func (r *refused) due(e *tables.ItemError, now time.Time) bool {
	known, ok := r.items[keyOf(e)]
	return ok && !now.Before(known.at) && !now.Before(r.notBefore)
}

// note takes what an attempt that began then, and took so long, found to be refused, and tells whether something was refused that was new or
// tried again.
func (r *refused) note(items []*tables.ItemError, retried bool, began time.Time, took time.Duration) bool {
	now, before, tried := began.Add(took), r.items, false
	r.items = nil
	if len(items) > 0 {
		r.items = make(map[itemKey]attempts, len(items))
	}
	for _, e := range items {
		known, ok := before[keyOf(e)]
		if !ok || retried && !began.Before(known.at) {
			known.n++
			known.at = now.Add(backoff(known.n, false, took))
			tried = true
		}
		r.items[keyOf(e)] = known
	}
	if retried {
		r.notBefore = now.Add(rest * took)
	}
	return tried
}

// next is when the first of the items is due.
func (r *refused) next() (at time.Time, ok bool) {
	for _, known := range r.items {
		if !ok || known.at.Before(at) {
			at, ok = known.at, true
		}
	}
	if at.Before(r.notBefore) {
		at = r.notBefore
	}
	return at, ok
}

// setRetry decides when the next attempt is due, after one that failed as a whole, tried again what had been refused alone, or was about
// other changes. News is no reason to try what was refused again, which compares all of its kind: drivers remember it, and look at
// what changed.
func (a *Agent) setRetry(failed, retried bool, began time.Time) {
	now := time.Now()
	took := now.Sub(began)
	again := a.refused.note(a.items, retried, began, took)
	next, due := a.refused.next()
	if failed {
		a.attempts++
		if at := now.Add(backoff(a.attempts, true, took)); !due || at.Before(next) {
			next, due = at, true
		}
	} else {
		a.attempts = 0
	}
	if failed || again {
		a.Metrics.failed()
	}
	if due {
		a.timers.apply.within(max(0, next.Sub(now)))
	}
}

// resyncRefused has all of those kinds compared of which something that was refused alone is due again, and tells whether there is any. Only of
// these: a session without its password is no reason to read all rules back.
func (a *Agent) resyncRefused(now time.Time) bool {
	due := slices.DeleteFunc(slices.Clone(a.items), func(e *tables.ItemError) bool { return !a.refused.due(e, now) })
	if slices.ContainsFunc(due, isPolicy) {
		a.Policy.Resync()
	}
	if slices.ContainsFunc(due, isRoute) {
		a.Routes.Resync()
	}
	if slices.ContainsFunc(due, isTunnel) {
		a.resyncTunnels()
	}
	if slices.ContainsFunc(due, isSession) {
		a.resyncBGP()
	}
	if slices.ContainsFunc(due, func(e *tables.ItemError) bool { return isLimit(e) || isPacketLimit(e) }) {
		a.resyncBandwidth()
	}
	return len(due) > 0
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
