package main

import (
	"slices"
	"testing"
	"time"
)

// Of each change, what counts is the first connection that saw it, from the API server's answer; and for how long before that the client had not
// tried, which is the measurement's own.
func TestEffects(t *testing.T) {
	at := func(ms int64) int64 { return ms * int64(time.Millisecond) }
	ms := func(all ...int64) (out []time.Duration) {
		for _, m := range all {
			out = append(out, time.Duration(m)*time.Millisecond)
		}
		return out
	}
	moments := []moment{{"deny", at(10)}, {"allow", at(100)}, {"deny", at(200)}, {"allow", at(300)}}
	attempts := []attempt{
		{at(9), true}, {at(11), true}, {at(12), true}, {at(14), false}, {at(15), false}, // refused 4 ms after the answer, 2 after the last attempt
		{at(99), false}, {at(130), true}, // the client tried no sooner: all of 30 ms
		{at(201), true}, {at(299), true}, // never refused
		{at(300), true}, // at once
	}
	var refused, accepted, untried []time.Duration
	for _, e := range effects(attempts, moments) {
		if took := time.Duration(e.seen - e.at); e.allow {
			accepted = append(accepted, took)
		} else {
			refused = append(refused, took)
		}
		untried = append(untried, time.Duration(e.seen-e.last))
	}
	for what, c := range map[string]struct{ got, want []time.Duration }{
		"refused": {refused, ms(4)}, "accepted": {accepted, ms(30, 0)}, "untried": {untried, ms(2, 30, 0)},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}
