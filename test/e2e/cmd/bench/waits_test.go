package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A thread waits from when it is woken, or is taken off its processor while it could go on, until it runs. Times in which several wait count once.
func TestWaits(t *testing.T) {
	const trace = `# tracer: nop
        manul-node-9       [000] d..2.     1.000000: sched_switch: prev_comm=manul-node prev_pid=9 prev_prio=120 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120
 Web Content (a)-712       [001] dNh4.     1.000100: sched_wakeup: comm=manul-node pid=9 prio=120 target_cpu=000
              etcd-712     [001] d..2.     1.000200: sched_wakeup: comm=manul-operator pid=10 prio=120 target_cpu=001
            <idle>-0       [000] d..2.     1.000350: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=manul-node next_pid=9 next_prio=120
              etcd-712     [001] d..2.     1.000400: sched_switch: prev_comm=etcd prev_pid=712 prev_prio=120 prev_state=R+ ==> next_comm=manul-operator next_pid=10 next_prio=120
        manul-node-9       [000] d..2.     1.000500: sched_switch: prev_comm=manul-node prev_pid=9 prev_prio=120 prev_state=R+ ==> next_comm=manul-node next_pid=77 next_prio=120
        manul-node-77      [000] d..2.     1.000600: sched_switch: prev_comm=manul-node prev_pid=77 prev_prio=120 prev_state=R+ ==> next_comm=manul-node next_pid=9 next_prio=120
`
	us := func(n int64) int64 { return n * int64(time.Microsecond) }
	// 77 is a thread of another cluster.
	all, err := waits(strings.NewReader(trace), us(5), map[int]string{9: "manul-node", 10: "manul-operator"})
	got, want := all[""], []span{{us(1_000_105), us(1_000_405)}, {us(1_000_505), us(1_000_605)}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v, want %v", got, err, want)
	}
	if len(all["manul-node"]) != 2 || len(all["manul-operator"]) != 1 {
		t.Errorf("by program: %v", all)
	}
	for i := range got {
		if off := got[i].from - want[i].from; off < -1000 || off > 1000 {
			t.Errorf("%v, want %v", got, want)
		}
	}
	for of, want := range map[span]int64{{0, us(1_000_105)}: 0, {us(1_000_200), us(1_000_550)}: 250, {us(1_000_405), us(1_000_505)}: 0} {
		if got := within(of, got).Round(time.Microsecond).Microseconds(); got != want {
			t.Errorf("%v: %d us, want %d", of, got, want)
		}
	}
}

func TestUnion(t *testing.T) {
	if got, want := union([]span{{5, 6}, {1, 3}, {2, 4}, {4, 5}, {8, 9}}), []span{{1, 6}, {8, 9}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
