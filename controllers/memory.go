package controllers

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What comes and goes may take as much memory as what stays before garbage is collected, as usual in Go, and up to twice as much where fewBytes
// are enough for that: collecting less often leaves the processor to others. From smallHeap on it may take no more than smallHeap, or half of
// what stays if that is more: collecting then takes a processor more, which matters less to a cluster of thousands of nodes than gibibytes.
const (
	mostPercent, usualPercent, leastPercent = 200, 100, 50
	fewBytes, smallHeap                     = 256 << 20, 640 << 20
	memoryEvery                             = 10 * time.Second
)

// SaveMemory has the process collect garbage earlier when it holds much, until ctx ends. GOGC in its environment counts before that.
func SaveMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := usualPercent // until something is known: a large cluster is read in the first seconds
	for tick := time.NewTicker(memoryEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if now := percentFor(live[0].Value.Uint64()); now != percent {
			percent = now
			debug.SetGCPercent(percent)
		}
	}
}

// percentFor is how much garbage there may be beside what stays, in percent of that.
func percentFor(live uint64) int {
	live = max(live, 1)
	if few := fewBytes * usualPercent / live; few > usualPercent {
		return int(min(few, mostPercent))
	}
	return int(min(max(smallHeap*usualPercent/live, leastPercent), usualPercent))
}
