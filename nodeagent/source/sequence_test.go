package source

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestSequenceOfReports: each is newer than those before, whatever the clock says, and than what the node's object says already.
func TestSequenceOfReports(t *testing.T) {
	c, err := NewCarriers(&rest.Config{Host: "http://127.0.0.1:1"}, StreamOptions{
		Node: testNode, Log: slog.New(slog.DiscardHandler),
		Find: func(context.Context) (Replicas, error) { return Replicas{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour).UnixMilli()
	for _, report := range []struct {
		what  string
		after int64
		want  int64 // at the least
	}{
		{"the first goes by the clock", 0, time.Now().UnixMilli()},
		{"one after a report of a clock that was ahead", future, future + 1},
		{"and one after that", 0, future + 2},
	} {
		c.Report(Report{After: report.after})
		if got := c.stream.lastReport().Sequence; got < report.want || report.want > future && got != report.want {
			t.Errorf("%s: %d, want %d", report.what, got, report.want)
		}
	}
}
