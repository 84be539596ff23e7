package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// onTheWay are the programs through whose hands a change goes from the API server's answer to the kernel, by the names of their threads.
func onTheWay() []string { return []string{"kube-apiserver", "manul-operator", "manul-node"} }

// scheduler records when threads of the programs on the way of a change wait for a processor: events of the kernel's scheduler in an instance of
// tracefs of its own, of these programs alone. https://docs.kernel.org/trace/events.html
type scheduler struct {
	mount, instance string
}

// bufferKiB bounds what is recorded, for each processor. The oldest is lost first.
const bufferKiB = 16 << 10

// record begins. The caller stops it.
func record(name string) (s *scheduler, err error) {
	s = &scheduler{}
	if s.mount, err = os.MkdirTemp("", "manul-bench-"); err != nil {
		return nil, fmt.Errorf("recording the scheduler: %w", err)
	}
	if err := unix.Mount("tracefs", s.mount, "tracefs", 0, ""); err != nil {
		return nil, fmt.Errorf("recording the scheduler: mounting tracefs: %w", errors.Join(err, os.Remove(s.mount)))
	}
	s.instance = filepath.Join(s.mount, "instances", "manul-"+name)
	if err := os.Mkdir(s.instance, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("recording the scheduler: %w", errors.Join(err, s.stop()))
	}
	anyOf := func(format string) string {
		var all []string
		for _, name := range onTheWay() {
			all = append(all, strings.ReplaceAll(format, "NAME", strconv.Quote(name)))
		}
		return strings.Join(all, " || ")
	}
	for _, write := range []struct{ file, text string }{
		{"trace", ""},
		{"trace_clock", "mono"},
		{"buffer_size_kb", strconv.Itoa(bufferKiB)},
		{"events/sched/sched_wakeup/filter", anyOf("comm == NAME")},
		{"events/sched/sched_switch/filter", anyOf("prev_comm == NAME || next_comm == NAME")},
		{"events/sched/sched_wakeup/enable", "1"},
		{"events/sched/sched_switch/enable", "1"},
		{"tracing_on", "1"},
	} {
		if err := os.WriteFile(filepath.Join(s.instance, write.file), []byte(write.text), 0o600); err != nil {
			return nil, fmt.Errorf("recording the scheduler: %w", errors.Join(err, s.stop()))
		}
	}
	return s, nil
}

// waits reads what was recorded until now of threads, by their programs. That of the program "" is of them all.
func (s *scheduler) waits(programs map[int]string) (map[string][]span, error) {
	if err := os.WriteFile(filepath.Join(s.instance, "tracing_on"), []byte("0"), 0o600); err != nil {
		return nil, fmt.Errorf("recording the scheduler: %w", err)
	}
	trace, err := os.Open(filepath.Join(s.instance, "trace"))
	if err != nil {
		return nil, fmt.Errorf("reading what the scheduler did: %w", err)
	}
	defer trace.Close()
	// The kernel's times are of a clock that is never set.
	var monotonic unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic); err != nil {
		return nil, fmt.Errorf("reading the clock: %w", err)
	}
	return waits(trace, time.Now().UnixNano()-monotonic.Nano(), programs)
}

// stop removes what record made.
func (s *scheduler) stop() error {
	return errors.Join(os.Remove(s.instance), unix.Unmount(s.mount, 0), os.Remove(s.mount))
}

// span is a time from one moment to another, nanoseconds since 1970.
type span struct{ from, to int64 }

// waits reads the scheduler's events and tells for each program when at least one of its threads could have run but had no processor, in order and
// without overlap, and the same of all programs as that of "". offset is what the events' times lack to be since 1970.
func waits(trace io.Reader, offset int64, programs map[int]string) (map[string][]span, error) {
	all := map[string][]span{}
	runnable := map[int]int64{}
	lines := bufio.NewScanner(trace)
	for lines.Scan() {
		e, ok := parse(lines.Text())
		if !ok {
			continue
		}
		at := e.at + offset
		if _, counts := programs[e.waits]; counts {
			if _, already := runnable[e.waits]; !already {
				runnable[e.waits] = at
			}
		}
		if since, waited := runnable[e.runs]; waited {
			delete(runnable, e.runs)
			for _, program := range []string{programs[e.runs], ""} {
				all[program] = append(all[program], span{since, at})
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading what the scheduler did: %w", err)
	}
	for program, spans := range all {
		all[program] = union(spans)
	}
	return all, nil
}

// event is one of the scheduler: from then on a thread waits for a processor, or runs, or both of two.
type event struct {
	at          int64
	waits, runs int
}

// parse reads a line as
//
//	etcd-712 [001] d..2. 77200.130758: sched_switch: prev_comm=etcd prev_pid=712 prev_prio=120 prev_state=S ==> next_comm=manul-node next_pid=9 next_prio=120
//	etcd-712 [001] d..2. 77200.130750: sched_wakeup: comm=manul-node pid=9 prio=120 target_cpu=001
//
// A thread that is taken from its processor while it could go on is in state R.
func parse(line string) (e event, ok bool) {
	const switched, woken = ": sched_switch: ", ": sched_wakeup: "
	head, rest, isSwitch := strings.Cut(line, switched)
	if !isSwitch {
		var isWake bool
		if head, rest, isWake = strings.Cut(line, woken); !isWake {
			return e, false
		}
	}
	seconds, err := strconv.ParseFloat(head[strings.LastIndexByte(head, ' ')+1:], 64)
	if err != nil {
		return e, false
	}
	e.at = int64(seconds * float64(time.Second))
	number := func(after string) int {
		_, text, _ := strings.Cut(rest, " "+after)
		text, _, _ = strings.Cut(text, " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0 // which is no thread that counts
		}
		return n
	}
	if !isSwitch {
		e.waits = number("pid=")
		return e, true
	}
	e.runs = number("next_pid=")
	if strings.Contains(rest, " prev_state=R") {
		e.waits = number("prev_pid=")
	}
	return e, true
}

// union puts spans that touch into one.
func union(all []span) (out []span) {
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range all {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// within is how much of a time lies in spans without overlap.
func within(of span, spans []span) (sum time.Duration) {
	for _, s := range spans {
		sum += time.Duration(max(0, min(of.to, s.to)-max(of.from, s.from)))
	}
	return sum
}

// threads are those of the programs on the way that are in one of the networks, which are links as /proc/PID/ns/net is, and the programs' names.
func threads(networks []string) (map[int]string, error) {
	found := map[int]string{}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	for _, process := range processes {
		// Some end meanwhile.
		comm, _ := os.ReadFile(filepath.Join(process, "comm"))
		name := strings.TrimSpace(string(comm))
		network, _ := os.Readlink(filepath.Join(process, "ns", "net"))
		if !slices.Contains(onTheWay(), name) || !slices.Contains(networks, network) {
			continue
		}
		tasks, _ := os.ReadDir(filepath.Join(process, "task"))
		for _, task := range tasks {
			if id, err := strconv.Atoi(task.Name()); err == nil {
				found[id] = name
			}
		}
	}
	return found, nil
}
