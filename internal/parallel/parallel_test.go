package parallel

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// TestEachIsDoneOnce, however many things and workers there are, and by no more workers at a time than were asked for.
func TestEachIsDoneOnce(t *testing.T) {
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 10*chunk + 3} {
		for _, workers := range []int{0, 1, 2, 5, 100} {
			t.Run(fmt.Sprintf("%d things by %d", n, workers), func(t *testing.T) {
				done := make([]atomic.Int32, n)
				var now atomic.Int32
				Each(workers, n, func(i int) {
					if at := now.Add(1); int(at) > max(workers, 1) {
						t.Errorf("%d at a time", at)
					}
					done[i].Add(1)
					now.Add(-1)
				})
				for i := range done {
					if times := done[i].Load(); times != 1 {
						t.Errorf("number %d was done %d times", i, times)
					}
				}
			})
		}
	}
}
