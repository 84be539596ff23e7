package main

import (
	"net/netip"
	"testing"
	"time"
)

func TestReachIsTheLastOfTheOthers(t *testing.T) {
	at := func(name, address string, ms int64) arrival {
		return arrival{Name: name, Address: netip.MustParseAddr(address), At: ms * int64(time.Millisecond)}
	}
	seen := map[string][]arrival{
		"home": {
			at("element", "10.0.0.1", 1000), at("route", "10.0.0.1", 1300),
			at("element", "10.0.0.2", 2000), at("route", "10.0.0.2", 2010), // the others are later than its route
			at("route", "10.0.0.3", 3000),                                  // no policy names it
			at("element", "10.0.0.1", 9000), at("route", "10.0.0.1", 9500), // used again
		},
		"a": {at("element", "10.0.0.1", 1005), at("element", "10.0.0.2", 2015), at("element", "10.0.0.1", 9001)},
		"b": {at("element", "10.0.0.1", 1020), at("element", "10.0.0.2", 2005), at("element", "10.0.0.1", 9004)},
	}
	spread, ahead := reach(seen, "home", []string{"a", "b"})
	for i, want := range []struct{ spread, ahead time.Duration }{{20, 280}, {15, -5}, {4, 496}} {
		if i >= len(spread) || spread[i] != want.spread*time.Millisecond || ahead[i] != want.ahead*time.Millisecond {
			t.Errorf("pod %d: spread %v and ahead %v, want %d and %d ms in its place", i, spread, ahead, want.spread, want.ahead)
		}
	}
	if len(spread) != 3 {
		t.Errorf("%d pods, want 3", len(spread))
	}
}
