// Package parallel does the same with many things on all processors.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// chunk is how many things a worker takes at a time: few enough that all end together, and so many that taking them costs nothing.
const chunk = 16

// Workers is how many goroutines can do something at a time.
func Workers() int { return runtime.GOMAXPROCS(0) }

// Each calls do with every number below n, each once, and returns when all are done. At most workers calls run at a time, in no
// particular order; so few that one worker would take them all at once are done by the caller, in order. do must not panic.
func Each(workers, n int, do func(i int)) {
	if workers = min(workers, (n+chunk-1)/chunk); workers <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				to := int(next.Add(chunk))
				for i := to - chunk; i < min(to, n); i++ {
					do(i)
				}
				if to >= n {
					return
				}
			}
		})
	}
	all.Wait()
}
