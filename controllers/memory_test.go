package controllers

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

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

// TestGarbageIsCollectedInProportionFromTheStart: with each collection the setting follows what stays, however soon it comes after the one before.
func TestGarbageIsCollectedInProportionFromTheStart(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(wholePercent)
	ended := make(chan struct{})
	t.Cleanup(func() { // after the context has ended
		<-ended
		debug.SetGCPercent(before)
	})
	go func() {
		defer close(ended)
		SaveMemory(t.Context())
	}()
	percent := func() int {
		now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(now)
		return int(now[0].Value.Uint64())
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	held := make([][]byte, 0, 3)
	for _, more := range []int{1, 150 << 20, 250 << 20} {
		held = append(held, make([]byte, more))
		runtime.GC()
		metrics.Read(live)
		want := percentFor(live[0].Value.Uint64())
		for deadline := time.Now().Add(10 * time.Second); percent() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("beside %d MiB the setting is %d %%, want %d %% without another collection", live[0].Value.Uint64()>>20, percent(), want)
			}
			runtime.Gosched()
		}
	}
	runtime.KeepAlive(held)
}
