package v3

import (
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[Duration]time.Duration{"": 0, "0": 0, "90s": 90 * time.Second, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute} {
		if got, err := text.Parse(); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []Duration{"90", "soon", "-1s"} {
		if got, err := text.Parse(); err == nil || !strings.Contains(err.Error(), string(text)) {
			t.Errorf("%q: got %v, %v, want an error that shows the text", text, got, err)
		}
	}
}
