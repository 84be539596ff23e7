package controllers

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// What comes and goes may take as much memory as the square root of what stays, of which usual may take as much as it is: so what collecting
// costs and what it saves stay in proportion (Kirisame, Shenoy and Panchekha, "Optimal heap limits for reducing browser memory use", 2022). Much
// that stays costs much to look through, but gibibytes beside it matter more; beside little there is room for more than that.
const (
	usual                     = 192 << 20
	leastPercent, mostPercent = 25, 200
	stepPercent, wholePercent = 10, 100
)

// SaveMemory has the process collect garbage earlier when it holds much, until ctx ends. GOGC in its environment counts before that. It looks
// after each collection: a replica that takes over reads hundreds of mebibytes a second, and by the clock would go by what stayed long ago.
func SaveMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := wholePercent // as it is in Go
	for collected := collections(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
		metrics.Read(live)
		if now := percentFor(live[0].Value.Uint64()); now != percent {
			percent = now
			debug.SetGCPercent(percent)
		}
	}
}

// collections yields a value soon after a collection, until ctx ends.
func collections(ctx context.Context) <-chan struct{} {
	collected := make(chan struct{}, 1)
	var next func()
	next = func() {
		runtime.AddCleanup(new(garbage), func(struct{}) {
			if ctx.Err() != nil {
				return
			}
			select {
			case collected <- struct{}{}:
			default:
			}
			next()
		}, struct{}{})
	}
	next()
	return collected
}

// garbage is found by the next collection. It holds a pointer, so that the runtime puts it together with nothing else.
type garbage struct{ _ *garbage }

// percentFor is how much garbage there may be beside what stays, in percent of that: in steps, for each change stops the process for a moment.
func percentFor(live uint64) int {
	percent := wholePercent * math.Sqrt(usual/float64(max(live, 1)))
	return min(max(int(percent/stepPercent)*stepPercent, leastPercent), mostPercent)
}
