package iptables

import (
	"testing"
	"time"
)

// TestTimeOfTheNextLook: looks take a bounded part of the time, but what others changed does not stay for longer than ten minutes.
func TestTimeOfTheNextLook(t *testing.T) {
	for _, tc := range []struct{ every, took, want time.Duration }{
		{5 * time.Second, time.Millisecond, 5 * time.Second},
		{5 * time.Second, 20 * time.Millisecond, 40 * time.Second},
		{5 * time.Second, time.Second, 10 * time.Minute},
		{5 * time.Second, time.Hour, 10 * time.Minute},
		{time.Hour, time.Second, time.Hour},
	} {
		if got := nextLook(tc.every, tc.took); got != tc.want {
			t.Errorf("wanted every %s, after a look of %s: %s, want %s", tc.every, tc.took, got, tc.want)
		}
	}
}
