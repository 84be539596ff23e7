package controllers

import "testing"

func TestGarbageBesideWhatStays(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 200, 100 << 20: 200, 160 << 20: 160, 256 << 20: 100,
		640 << 20: 100, 800 << 20: 80, 1280 << 20: 50, 4 << 30: 50,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("beside %d MiB: %d %%, want %d %%", live>>20, got, want)
		}
	}
}
