package v3

import (
	"fmt"
	"time"
)

// Duration is a span of time as a user writes it, such as "90s" or "1m30s". It is kept as text: the schemas of some fields let texts
// pass that are no duration, and one such object must not keep the others from being read.
type Duration string

// Parse returns the span of time, 0 for an empty text.
func (d Duration) Parse() (time.Duration, error) {
	if d == "" {
		return 0, nil
	}
	span, err := time.ParseDuration(string(d))
	if err != nil {
		return 0, fmt.Errorf("reading %q as a duration such as 90s or 1m30s: %w", string(d), err)
	}
	if span < 0 {
		return 0, fmt.Errorf("reading %q as a duration such as 90s or 1m30s: it is negative", string(d))
	}
	return span, nil
}
