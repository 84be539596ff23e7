package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// mostKnocks bounds what is remembered until the end, at 16 bytes each.
const mostKnocks = 10_000_000

// knocks are TCP connections that are begun at every tick, and broken off with a reset as soon as they have come about: handshakes and no more.
type knocks struct {
	address                string
	every, length, timeout time.Duration
	// realtime lets those who knock come before all threads that have no real-time priority (sched(7)).
	realtime bool
}

// knocked is what came of one.
type knocked struct {
	start int64 // nanoseconds since 1970
	ok    bool
}

// run knocks until the time is up or the context ends, and then prints an Attempt for each, in order of beginning. Each processor has a thread that knocks in its turn,
// so that one that is long in the kernel does not keep the others from knocking.
func (k knocks) run(ctx context.Context) error {
	to, err := netip.ParseAddrPort(k.address)
	if err != nil {
		return fmt.Errorf("knock: %w: want an IP address and a port, as in 192.0.2.1:80 or [2001:db8::1]:80", err)
	}
	if k.every <= 0 || k.timeout <= 0 || k.length <= 0 || k.length/k.every >= mostKnocks {
		return fmt.Errorf("knock: every %s for %s, with %s for an answer: want lengths above 0, and at most %d ticks", k.every, k.length, k.timeout, mostKnocks)
	}
	var processors unix.CPUSet
	if err := unix.SchedGetaffinity(0, &processors); err != nil {
		return fmt.Errorf("knock: asking for processors: %w", err)
	}
	var knockers []*knocker
	turns, began := time.Duration(processors.Count()), monotonic()
	for processor := 0; len(knockers) < int(turns); processor++ {
		if processors.IsSet(processor) {
			knockers = append(knockers, newKnocker(to, processor, began+time.Duration(len(knockers))*k.every, k.every*turns, k.timeout, int(k.length/k.every/turns)+1))
		}
	}
	if err := k.all(ctx, knockers); err != nil {
		return err
	}
	var done []knocked
	for _, one := range knockers {
		done = append(done, one.done...)
	}
	slices.SortFunc(done, func(a, b knocked) int { return cmp.Compare(a.start, b.start) })
	out := json.NewEncoder(os.Stdout)
	for _, a := range done {
		if err := out.Encode(Attempt{Start: a.start, To: k.address, OK: a.ok}); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

// all lets all knock, each in a thread of its own, without collections of garbage, for there is none.
func (k knocks) all(ctx context.Context, knockers []*knocker) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if k.realtime {
		if err := prioritize(unix.SCHED_FIFO, 1); err != nil {
			fmt.Fprintln(os.Stderr, "prober: who knocks waits for a processor as others do:", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range knockers {
		group.Go(func() error {
			runtime.LockOSThread() // and the thread ends with its goroutine
			return errors.Join(one.place(), one.run(ctx))
		})
	}
	err := group.Wait()
	if k.realtime {
		err = errors.Join(err, prioritize(unix.SCHED_NORMAL, 0))
	}
	return err
}

// prioritize gives all threads of this process a policy of scheduling and a priority (sched(7)), those that they will begin included. A
// knocker waits at times for what another thread of the Go runtime holds, so that its own priority alone would be of no use.
func prioritize(policy, priority uint32) error {
	done := map[int]bool{}
	for more := true; more; {
		more = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || done[id] {
				continue
			}
			done[id], more = true, true
			if err := unix.SchedSetAttr(id, &unix.SchedAttr{Policy: policy, Priority: priority}, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("setting the priority of thread %d: %w", id, err)
			}
		}
	}
	return nil
}

// monotonic is the time by the clock that sleeps are told in.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // there is no system without that clock
	}
	return time.Duration(now.Nano())
}
