package main

import (
	"bufio"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the monitor says of an address counts from the API server's answer until the next change; other lines do not count.
func TestWhenTheRouterHasRoutes(t *testing.T) {
	const text = `[2026-11-28T12:00:00.010000] 10.50.0.30 via 10.0.0.11 dev ens160 proto bird metric 32 
[2026-11-28T12:00:00.020000] 10.50.0.31 via 10.0.0.11 dev ens160 proto bird metric 32 
a line of something else
[2026-11-28T12:00:01.005000] Deleted 10.50.0.30 via 10.0.0.11 dev ens160 proto bird metric 32 
[2026-11-28T12:00:01.990000] 10.50.0.30 via 10.0.0.11 dev ens160 proto bird metric 32 
`
	events := eventsOf(bufio.NewScanner(strings.NewReader(text)), "10.50.0.30")
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var changes []moment
	for i, name := range []string{"there", "gone", "there", "gone"} {
		changes = append(changes, moment{Name: name, At: start.Add(time.Duration(i) * time.Second).UnixNano()})
	}
	// The last change is one that the router never had.
	for kind, want := range map[string][]time.Duration{"there": {10 * time.Millisecond, 0}, "gone": {5 * time.Millisecond}} {
		if got := reached(changes, events, kind); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
}
