package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// attempt is a line of "prober probe".
type attempt struct {
	Start int64 `json:"start"`
	OK    bool  `json:"ok"`
}

// moment is a line of test/bench: when the API server answered.
type moment struct {
	Name string `json:"name"`
	At   int64  `json:"at"`
}

// changes knocks at the server from the client's network while test/bench makes changes, and finds for each change the first connection that saw it. Whoever
// knocks has real-time priority, or what is measured is how soon the client gets a processor beside the operator, the API server and the kubelets; it takes
// at most half of one, and by default a tenth (prober knock).
func (b *bench) changes(ctx context.Context, t *table, benchmark, deny, allow string) error {
	server, err := b.Kubectl(ctx, "get", "pod", "-n", "bench", "server", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		return err
	}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	// A little longer than the changes take: 2 pauses of 150 ms each, and the API server's time.
	length := time.Duration(b.n) * 700 * time.Millisecond
	probe := b.InNetwork(probing, "worker2", "client", b.prober, "knock", fmt.Sprint("-realtime=", b.realtime), "-every", b.every.String(), "-timeout", "100ms", "-for", length.String(), server+":8081")
	var out strings.Builder
	probe.Stdout, probe.Stderr = &out, b.Log
	if err := probe.Start(); err != nil {
		return fmt.Errorf("starting the prober: %w", err)
	}
	events, err := b.inside(ctx, "master1", benchmark)
	if err != nil {
		return err
	}
	if err := probe.Wait(); err != nil {
		return fmt.Errorf("running the prober: %w", err)
	}
	attempts, err := decode[attempt](out.String())
	if err != nil {
		return err
	}
	moments, err := decode[moment](events)
	if err != nil {
		return err
	}
	slices.SortFunc(attempts, func(a, b attempt) int { return int(a.Start - b.Start) })
	took, err := lengths(events)
	if err != nil {
		return err
	}
	moments = slices.DeleteFunc(moments, func(m moment) bool { return m.At == 0 }) // the lengths
	refused, accepted, untried := effects(attempts, moments)
	t.row(deny, refused)
	t.row(allow, accepted)
	// What of that is the measurement's own, and the machine's.
	t.row("of that: the client did not try", untried)
	if watched := took["watched"]; len(watched) > 0 {
		t.row("the API server's answer -> another client's watch", watched)
	}
	return nil
}

// effects finds, for each change, how long after the API server's answer the first connection began that saw it. A
// change that was seen before the answer arrived counts as 0. untried is for how long there had been no connection by which it could have been seen earlier.
func effects(attempts []attempt, moments []moment) (refused, accepted, untried []time.Duration) {
	for i, m := range moments {
		end := int64(1<<63 - 1)
		if i+1 < len(moments) {
			end = moments[i+1].At
		}
		first, _ := slices.BinarySearchFunc(attempts, m.At, func(a attempt, at int64) int { return int(a.Start - at) })
		last := m.At
		for _, a := range attempts[first:] {
			if a.Start >= end {
				break
			}
			if a.OK != (m.Name == "allow") {
				last = a.Start
				continue
			}
			untried = append(untried, time.Duration(a.Start-last))
			took := time.Duration(a.Start - m.At)
			if m.Name == "allow" {
				accepted = append(accepted, took)
			} else {
				refused = append(refused, took)
			}
			break
		}
	}
	return refused, accepted, untried
}

// lengths reads the lines of test/bench that say how long something took, by name.
func lengths(out string) (map[string][]time.Duration, error) {
	type length struct {
		Name string        `json:"name"`
		Took time.Duration `json:"took"`
	}
	all, err := decode[length](out)
	if err != nil {
		return nil, err
	}
	byName := map[string][]time.Duration{}
	for _, l := range all {
		byName[l.Name] = append(byName[l.Name], l.Took)
	}
	return byName, nil
}

func decode[T any](out string) ([]T, error) {
	var all []T
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		var v T
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("reading %q: %w", lines.Text(), err)
		}
		all = append(all, v)
	}
	return all, nil
}
