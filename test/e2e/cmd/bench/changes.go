package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
// at most half of one (prober knock).
func (b *bench) changes(ctx context.Context, t *table, benchmark, deny, allow string) error {
	server, err := b.Kubectl(ctx, "get", "pod", "-n", "bench", "server", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		return err
	}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	// A little longer than the changes take: 2 pauses of 150 ms each, and the API server's time.
	length := time.Duration(b.n) * 700 * time.Millisecond
	probe := b.InNetwork(probing, "worker2", "client", b.prober, "knock", fmt.Sprint("-realtime=", b.realtime), "-every", b.every.String(), "-timeout", "100ms", "-for", length.String(), server+":8080")
	var out strings.Builder
	probe.Stdout, probe.Stderr = &out, b.Log
	if err := probe.Start(); err != nil {
		return fmt.Errorf("starting the prober: %w", err)
	}
	var waited map[string][]span
	events, err := func() (events string, err error) {
		recording, err := record(b.Name)
		if err != nil {
			fmt.Fprintln(b.Log, "bench: who waited for a processor is not known:", err)
			return b.inside(ctx, "master1", benchmark)
		}
		defer func() { err = errors.Join(err, recording.stop()) }()
		if events, err = b.inside(ctx, "master1", benchmark); err != nil {
			return "", err
		}
		waited, err = b.waited(ctx, recording)
		return events, err
	}()
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
	var refused, accepted, untried []time.Duration
	queued := map[string][]time.Duration{}
	for _, e := range effects(attempts, moments) {
		took := time.Duration(e.seen - e.at)
		if e.allow {
			accepted = append(accepted, took)
		} else {
			refused = append(refused, took)
		}
		untried = append(untried, time.Duration(e.seen-e.last))
		// Of what was before the oldest that is left, nothing is known.
		if all := waited[""]; len(all) > 0 && all[0].from < e.at {
			for program, spans := range waited {
				queued[program] = append(queued[program], within(span{e.at, e.seen}, spans))
			}
		}
	}
	if len(refused) == 0 || len(accepted) == 0 {
		return fmt.Errorf("of %d changes connections saw %d that deny and %d that allow: is what they knock at let in otherwise?", len(moments), len(refused), len(accepted))
	}
	t.row(deny, refused)
	t.row(allow, accepted)
	// What of that is the measurement's own, and the machine's.
	t.row("of that: the client did not try", untried)
	if all := queued[""]; len(all) > 0 {
		t.row("of that: a thread of API server, operator or agent waited for a processor", all)
		for _, program := range onTheWay() {
			t.row("one of "+program, queued[program])
		}
	}
	if watched := took["watched"]; len(watched) > 0 {
		t.row("the API server's answer -> another client's watch", watched)
	}
	return nil
}

// waited is when threads of the cluster's programs waited for a processor, by program.
func (b *bench) waited(ctx context.Context, recording *scheduler) (map[string][]span, error) {
	var networks []string
	for _, host := range []string{"master1", "worker1", "worker2"} {
		network, err := b.On(ctx, host, "readlink", "/proc/self/ns/net")
		if err != nil {
			return nil, err
		}
		networks = append(networks, strings.TrimSpace(network))
	}
	ours, err := threads(networks)
	if err != nil {
		return nil, err
	}
	return recording.waits(ours)
}

// effect is a change that was seen, in nanoseconds since 1970.
type effect struct {
	allow bool
	// at is when the API server answered, seen when the first connection began that saw it, 0 ns later at the least. last is when the one before began, or at: from then
	// until seen there was no connection by which it could have been seen.
	at, seen, last int64
}

// effects finds what connections saw which changes.
func effects(attempts []attempt, moments []moment) (all []effect) {
	for i, m := range moments {
		end := int64(1<<63 - 1)
		if i+1 < len(moments) {
			end = moments[i+1].At
		}
		first, _ := slices.BinarySearchFunc(attempts, m.At, func(a attempt, at int64) int { return int(a.Start - at) })
		e := effect{allow: m.Name == "allow", at: m.At, last: m.At}
		for _, a := range attempts[first:] {
			if a.Start >= end {
				break
			}
			if a.OK == e.allow {
				e.seen = a.Start
				all = append(all, e)
				break
			}
			e.last = a.Start
		}
	}
	return all
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
