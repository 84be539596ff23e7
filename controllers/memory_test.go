package controllers

import "testing"

func TestGarbageBesideWhatStays(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 200, 48 << 20: 200, 100 << 20: 130, 192 << 20: 100,
		400 << 20: 60, 768 << 20: 50, 1 << 30: 40, 4 << 30: 25, 1 << 40: 25,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("beside %d MiB: %d %%, want %d %%", live>>20, got, want)
		}
	}
}
