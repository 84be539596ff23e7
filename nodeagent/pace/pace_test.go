package pace

import (
	"math"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		what               string
		every, took, after time.Duration
	}{
		{"what takes nothing comes as often as it is wanted", time.Minute, 0, time.Minute},
		{"so does what takes less than its part", time.Minute, 30 * time.Millisecond, time.Minute},
		{"what takes more is put off until it takes no more than its part", time.Minute, 31 * time.Millisecond, 62 * time.Second},
		{"the more it takes the longer", time.Minute, 3 * time.Second, 100 * time.Minute},
		{"but it comes at last, however long it took", time.Minute, math.MaxInt64, Longest},
		{"what is wanted less often still is not hastened", 7 * time.Hour, time.Hour, 7 * time.Hour},
		{"a clock that was set back counts for nothing", time.Minute, -time.Second, time.Minute},
	} {
		if got := Next(c.every, c.took); got != c.after {
			t.Errorf("%s: wanted every %s, took %s: again after %s, want %s", c.what, c.every, c.took, got, c.after)
		}
	}
}
