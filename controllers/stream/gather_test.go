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
	for i := range 100 {
		late(1, 100*time.Microsecond, time.Duration(i)*time.Millisecond/2)
	}
	spacing("one change concerned a hundred nodes, of which the last was told after 50 ms", 0, 0)
	late(2000, time.Millisecond, onTime)
	spacing("all news is just on time", 0, 0)
	late(2000, time.Millisecond, onTime+20*time.Millisecond)
	spacing("all news is late by 20 ms more", gatherFactor*10*time.Millisecond, gatherFactor*20*time.Millisecond)
	late(1000, time.Millisecond, time.Minute)
	spacing("news is late by a minute", longestGathering, longestGathering)
	late(2000, time.Millisecond, time.Millisecond)
	spacing("news has been on time for two seconds", 0, 0)
	late(1000, time.Millisecond, time.Second)
	now = now.Add(20 * forgetIn)
	spacing("nothing has happened since, for some seconds", 0, 0)
}

func TestWhatIsLate(t *testing.T) {
	at := func(ms int) time.Time { return time.Time{}.Add(time.Hour + time.Duration(ms)*time.Millisecond) }
	for _, c := range []struct {
		what                          string
		taken, since, sent, notBefore time.Time
		want                          time.Duration
	}{
		{"it is taken at once", at(100), at(100), time.Time{}, time.Time{}, 0},
		{"it waits for a processor", at(130), at(100), at(50), time.Time{}, 30 * time.Millisecond},
		{"the agent is slow to read what was sent before", at(900), at(100), at(900), time.Time{}, 0},
		{"it was gathered", at(200), at(100), at(50), at(200), 0},
		{"it was gathered, and then waits", at(230), at(100), at(50), at(200), 30 * time.Millisecond},
		{"it could not wait, and was not gathered", at(110), at(100), at(50), at(200), 0},
	} {
		if got := lateness(c.taken, c.since, c.sent, c.notBefore); got != c.want {
			t.Errorf("%s: late by %s, want %s", c.what, got, c.want)
		}
	}
}
