// Package announce bounds events: each is about something of which a status says how it is, so one that is left out is no loss, and too
// many are one for everybody.
package announce

import (
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// maxNote is how many bytes an event may say; the API server refuses more.
	maxNote = 1024
	// oncePer is how long nothing is said again about the same subject for the same reason.
	oncePer = time.Minute
	// perMinute bounds the events about all subjects together: one node that fails may concern all of them.
	perMinute = 300
)

// Limiter tells which events are due. The zero value has announced nothing.
type Limiter[K comparable] struct {
	mu sync.Mutex
	// last event about a subject, by reason.
	last map[K]map[string]time.Time
	// minute and count are of the events about all subjects.
	minute time.Time
	count  int
}

// Allow tells whether an event is due, and takes note of it.
func (l *Limiter[K]) Allow(subject K, reason string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[subject][reason]; ok && now.Sub(last) < oncePer {
		return false
	}
	if now.Sub(l.minute) >= time.Minute {
		l.minute, l.count = now, 0
		l.sweep(now)
	}
	if l.count >= perMinute {
		return false
	}
	l.count++
	if l.last == nil {
		l.last = map[K]map[string]time.Time{}
	}
	if l.last[subject] == nil {
		l.last[subject] = map[string]time.Time{}
	}
	l.last[subject][reason] = now
	return true
}

// sweep forgets what keeps nothing from being said any more, so that no more is remembered than two minutes' events.
func (l *Limiter[K]) sweep(now time.Time) {
	for subject, reasons := range l.last {
		for reason, last := range reasons {
			if now.Sub(last) >= oncePer {
				delete(reasons, reason)
			}
		}
		if len(reasons) == 0 {
			delete(l.last, subject)
		}
	}
}

// Note fits a text into an event.
func Note(text string) string {
	const more = "…"
	if len(text) <= maxNote {
		return text
	}
	cut := maxNote - len(more)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
