package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// table prints figures as rows of a Markdown table.
type table struct {
	out    io.Writer
	headed bool
}

func (t *table) head() {
	if !t.headed {
		fmt.Fprintf(t.out, "| figure | n | p50 | p99 |\n|---|---|---|---|\n")
		t.headed = true
	}
}

// row prints a distribution.
func (t *table) row(name string, took []time.Duration) {
	t.head()
	slices.Sort(took)
	fmt.Fprintf(t.out, "| %s | %d | %s | %s |\n", name, len(took), ms(quantile(took, 50)), ms(quantile(took, 99)))
}

// within prints a distribution of which only the buckets are known.
func (t *table) within(name string, h buckets) {
	t.head()
	fmt.Fprintf(t.out, "| %s | %d | within %s | within %s |\n", name, h.count(), ms(h.quantile(50)), ms(h.quantile(99)))
}

// value prints a single figure.
func (t *table) value(name string, value float64, unit string) {
	t.head()
	fmt.Fprintf(t.out, "| %s | 1 | %.1f %s | |\n", name, value, unit)
}

// quantile is the smallest value that percent of the sorted values do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, (len(sorted)*percent+99)/100-1)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
