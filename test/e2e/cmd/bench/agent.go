package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How long the agent's work at rest is counted: with policies, and with all that a node may have, when what comes every five minutes costs
// something, such as a comparison with the kernel, and has to come once.
const (
	rest      = 30 * time.Second
	wholeRest = 5 * time.Minute
)

// memory prints what the kernel says of the agent's process.
func (b *bench) memory(ctx context.Context, t *table) error { return b.memoryWith(ctx, t, "") }

func (b *bench) memoryWith(ctx context.Context, t *table, with string) error {
	out, err := b.On(ctx, "worker1", "sh", "-c", `cat /proc/$(pidof manul-node)/status`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		for field, name := range map[string]string{"VmRSS:": "agent's resident memory", "RssAnon:": "of which anonymous"} {
			if rest, ok := strings.CutPrefix(line, field); ok {
				var kib float64
				if _, err := fmt.Sscan(rest, &kib); err != nil {
					return fmt.Errorf("reading %q: %w", line, err)
				}
				t.value(with+name, kib/1024, "MiB")
			}
		}
	}
	return nil
}

// cpu is how much time the agent's process has worked.
func (b *bench) cpu(ctx context.Context) (time.Duration, error) {
	out, err := b.On(ctx, "worker1", "sh", "-c", `cut -d')' -f2 /proc/$(pidof manul-node)/stat`)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(out) // from the third field of proc_pid_stat(5) on
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("reading %q: too few fields", out)
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[utime]+" "+fields[stime], &user, &system); err != nil {
		return 0, fmt.Errorf("reading %q: %w", out, err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all of Linux' architectures that matter here
	return time.Duration(user+system) * tick, nil
}

// loads measures with many policies in the cluster, of which a hundred select the server.
func (b *bench) loads(ctx context.Context, t *table) error {
	for _, n := range b.sizes {
		with := fmt.Sprintf("%d policies: ", n)
		if err := b.takenIn(ctx, t, with, "load", n, rest); err != nil {
			return err
		}
		if err := b.inUse(ctx, t, with); err != nil {
			return err
		}
		if err := b.restartWith(ctx, t, with); err != nil {
			return err
		}
	}
	return nil
}

// members measures with 50,000 addresses in sets that a policy of the server names, 30 pods beside the server, and the policies that
// were loaded before.
func (b *bench) members(ctx context.Context, t *table) error {
	const n = 50_000
	with := fmt.Sprintf("%d members of sets and 30 pods besides: ", n)
	if err := b.takenIn(ctx, t, with, "members", n, wholeRest); err != nil {
		return err
	}
	return b.restartWith(ctx, t, with)
}

// takenIn prints what it costs the agent to take in n of what test/bench makes, which ends when all of it is in force, and what it costs to have
// it.
func (b *bench) takenIn(ctx context.Context, t *table, with, what string, n int, rest time.Duration) error {
	before, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := b.inside(ctx, "master1", what, "-n", fmt.Sprint(n)); err != nil {
		return err
	}
	t.value(with+"until all of it is made and in force", time.Since(began).Seconds(), "s")
	after, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	t.value(with+"agent's CPU time to take them in", (after - before).Seconds(), "s")
	return b.atRest(ctx, t, with, rest)
}

// restartWith measures restarts with what is loaded, if they are measured at all: fewer, for they take long.
func (b *bench) restartWith(ctx context.Context, t *table, with string) error {
	if !b.has("restart") {
		return nil
	}
	return b.restart(ctx, t, with, restartsWith)
}

// atRest prints what the agent works and holds while nothing changes.
func (b *bench) atRest(ctx context.Context, t *table, with string, rest time.Duration) error {
	before, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
	}
	after, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	t.value(with+"agent's CPU at rest", 100*(after-before).Seconds()/rest.Seconds(), "% of a core")
	return b.memoryWith(ctx, t, with)
}
