package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stage is a part of the way of a change, of which a process keeps a histogram.
type stage struct {
	name, metric, label string
	hosts               []string
	port                string
}

// stages are what Manul's own processes do between the API server's watch and the kernel.
func stages() []stage {
	return []stage{
		{"operator, compiled -> message to the agent", "manul_stream_push_duration_seconds", "", []string{"master1", "worker1", "worker2"}, "8080"},
		{"agent, news -> in effect", "manul_agent_news_to_kernel_seconds", "", []string{"worker1"}, "9091"},
		{"the kernel's part of that", "manul_agent_apply_duration_seconds", `part="policy",`, []string{"worker1"}, "9091"},
	}
}

// staged runs what makes changes, and prints how long each stage took meanwhile.
func (b *bench) staged(ctx context.Context, t *table, run func() error) error {
	of := stages()
	before := make([]buckets, len(of))
	for i, s := range of {
		var err error
		if before[i], err = b.buckets(ctx, s); err != nil {
			return err
		}
	}
	if err := run(); err != nil {
		return err
	}
	for i, s := range of {
		after, err := b.buckets(ctx, s)
		if err != nil {
			return err
		}
		if meanwhile := after.since(before[i]); meanwhile.count() > 0 {
			t.within("of that: "+s.name, meanwhile)
		}
	}
	return nil
}

// buckets are those of a histogram: how many took no longer than so many seconds.
type buckets map[float64]int

func (h buckets) count() int { return h[math.Inf(1)] }

func (h buckets) since(before buckets) buckets {
	d := buckets{}
	for limit, n := range h {
		d[limit] = n - before[limit]
	}
	return d
}

// quantile is the limit of the bucket in which percent of all lie.
func (h buckets) quantile(percent int) time.Duration {
	for _, limit := range slices.Sorted(maps.Keys(h)) {
		if 100*h[limit] >= percent*h.count() && !math.IsInf(limit, 1) {
			return time.Duration(limit * float64(time.Second))
		}
	}
	return math.MaxInt64
}

// buckets adds up a stage's histogram over its hosts. On some of them there is no operator.
func (b *bench) buckets(ctx context.Context, s stage) (buckets, error) {
	all := buckets{}
	for _, host := range s.hosts {
		client := http.Client{Transport: &http.Transport{DialContext: b.Dialer(host), DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+s.port+"/metrics", http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("asking for metrics: %w", err)
		}
		response, err := client.Do(request)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking %s for metrics: %w", host, err)
		}
		err = all.read(response.Body, s)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return nil, fmt.Errorf("reading metrics of %s: %w", host, err)
		}
	}
	return all, nil
}

// read adds what Prometheus' text format says of a stage.
func (h buckets) read(from io.Reader, s stage) error {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), s.metric+"_bucket{"+s.label+`le="`)
		if !ok {
			continue
		}
		le, n, _ := strings.Cut(rest, `"} `)
		limit, err := strconv.ParseFloat(le, 64)
		count, err2 := strconv.Atoi(n)
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("reading %q: %w", lines.Text(), err)
		}
		h[limit] += count
	}
	return lines.Err()
}
