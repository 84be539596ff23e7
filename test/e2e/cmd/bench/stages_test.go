package main

import (
	"strings"
	"testing"
	"time"
)

func TestQuantilesOfWhatAHistogramGatheredMeanwhile(t *testing.T) {
	const text = `# HELP x Time.
x_bucket{part="policy",le="0.001"} 10
x_bucket{part="policy",le="0.002"} 19
x_bucket{part="policy",le="+Inf"} 20
x_bucket{part="routes",le="0.001"} 7
x_sum{part="policy"} 1
`
	s := stage{metric: "x", label: `part="policy",`}
	before, after := buckets{}, buckets{}
	if err := before.read(strings.NewReader(text), s); err != nil {
		t.Fatal(err)
	}
	for range 2 { // two hosts
		if err := after.read(strings.NewReader(text), s); err != nil {
			t.Fatal(err)
		}
	}
	h := after.since(before)
	if h.count() != 20 || h.quantile(50) != time.Millisecond || h.quantile(95) != 2*time.Millisecond {
		t.Errorf("%d, p50 %s, p95 %s", h.count(), h.quantile(50), h.quantile(95))
	}
	if h.quantile(99) < time.Hour {
		t.Errorf("p99 %s, and none is known", h.quantile(99))
	}
}
