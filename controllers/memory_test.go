package controllers

import "testing"

func TestGarbageBesideWhatStays(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 200, 64 << 20: 200, 100 << 20: 160, 256 << 20: 100,
		400 << 20: 80, 1 << 30: 50, 1280 << 20: 40, 4 << 30: 25, 1 << 40: 25,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("beside %d MiB: %d %%, want %d %%", live>>20, got, want)
		}
	}
}
