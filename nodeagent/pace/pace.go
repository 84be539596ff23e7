// Package pace says when work is due again that has to be done now and then and costs in proportion to all that there is, so that
// it takes a bounded part of a processor, however much that is.
package pace

import "time"

const (
	// Part is how much of a processor's time the work takes at most: one part in this many, 0.05 %.
	Part = 2000
	// Longest is how long the work is put off at most: what took this much may have waited rather than worked.
	Longest = 6 * time.Hour
)

// Next is in how long work is due again that is wanted every so often and took some time.
func Next(every, took time.Duration) time.Duration {
	return max(every, min(max(took, 0), Longest/Part)*Part)
}
