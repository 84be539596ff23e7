package announce

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEventsAreBounded(t *testing.T) {
	var l Limiter[int]
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if !l.Allow(0, "Enforced", start) || l.Allow(0, "Enforced", start.Add(oncePer-1)) {
		t.Error("want one event about a subject and a reason in a minute")
	}
	if !l.Allow(0, "NodesFail", start) || !l.Allow(0, "Enforced", start.Add(oncePer)) {
		t.Error("another reason, or a minute later, is worth another event")
	}
	said := 0
	for i := range 10_000 {
		if l.Allow(i, "NodesFail", start.Add(2*oncePer)) {
			said++
		}
	}
	if said != perMinute {
		t.Errorf("%d events in a minute, want %d", said, perMinute)
	}
	if l.Allow(0, "NodesFail", start.Add(4*oncePer)); len(l.last) != 1 {
		t.Errorf("%d subjects are remembered, want the one of the last minute", len(l.last))
	}
}

func TestLongNotes(t *testing.T) {
	if got := Note(strings.Repeat("ä", 2000)); len(got) > maxNote || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid UTF-8 %v", len(got), utf8.ValidString(got))
	}
	if got := Note("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}
