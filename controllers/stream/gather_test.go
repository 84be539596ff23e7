package stream

import (
	"testing"
	"time"
)

func TestNewsIsGatheredOnlyWhileItIsLate(t *testing.T) {
	var l load
	now := time.Now()
	spacing := func(what string, low, high time.Duration) {
		t.Helper()
		if got := l.spacing(now); got < low || got > high {
			t.Errorf("%s: messages to a node are %s apart, want %s to %s", what, got, low, high)
		}
	}
	late := func(times int, every, by time.Duration) {
		for range times {
			now = now.Add(every)
			l.note(by, now)
		}
	}
	spacing("at first", 0, 0)
	late(1000, time.Millisecond, time.Millisecond)
	spacing("all news is on time", 0, 0)
	late(1, time.Millisecond, 20*time.Millisecond)
	spacing("one piece of news was late", 0, gatherFactor*5*time.Millisecond)
	late(1000, time.Millisecond, 20*time.Millisecond)
	spacing("all news is late by 20 ms", gatherFactor*15*time.Millisecond, gatherFactor*20*time.Millisecond)
	late(1000, time.Millisecond, time.Minute)
	spacing("news is late by a minute", longestGathering, longestGathering)
	now = now.Add(20 * forgetIn)
	spacing("nothing has happened since, for some seconds", 0, 0)
}
