package main

import (
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/bench/clusters"
)

// change is a kind of change, of which number i is the object that a watch brings.
type change struct {
	name string
	of   func(i int) k8sruntime.Object
}

func kinds(c *clusters.Cluster) []change {
	return []change{
		{"a pod's label changes", func(int) k8sruntime.Object {
			p := c.Random.IntN(c.Pods)
			return c.Pod(p, (c.App(p)+1)%clusters.AppsOfNamespace)
		}},
		{"a policy of a namespace changes", func(i int) k8sruntime.Object {
			for {
				if p := c.Random.IntN(c.Policies); !clusters.IsGlobal(p) {
					return c.Policy(p, i+1)
				}
			}
		}},
		{"a global policy changes", func(i int) k8sruntime.Object { return c.Policy(c.Random.IntN(c.Policies/100)*100+99, i+1) }},
		{"a pod comes", func(i int) k8sruntime.Object { return c.Pod(c.Pods+i, i%clusters.AppsOfNamespace) }},
	}
}

// collectEvery is how often garbage is collected between changes that are measured without.
const collectEvery = 64

// changes prints of each kind how long single changes take, and how many objects each makes anew: first as it comes, in which they share the
// processors with the collector and with what else the machine does; then what they alone take of a processor, while nothing
// is collected, and what the one that took the most was about.
func changes(c *clusters.Cluster, server *api, n int) error {
	for _, change := range kinds(c) {
		took := make([]time.Duration, 0, n)
		objects := 0
		for i := range n {
			one, err := server.measure(change.of(i))
			if err != nil {
				return err
			}
			took = append(took, one.took)
			objects += len(one.keys)
		}
		row(fmt.Sprintf("%s: compiled and rendered (%.1f objects)", change.name, float64(objects)/float64(n)), took)

		worst, err := alone(change, server, n)
		if err != nil {
			return err
		}
		fmt.Printf("| the most was for %s | 1 | %.3f ms | |\n", worst.what(), milliseconds(worst.alone))
	}
	return nil
}

// alone prints what changes take of a processor while nothing is collected, and returns the one that took the most.
func alone(change change, server *api, n int) (measured, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	took := make([]time.Duration, 0, n)
	var worst measured
	for i := range n {
		if i%collectEvery == 0 {
			runtime.GC()
		}
		one, err := server.measure(change.of(n + i))
		if err != nil {
			return measured{}, err
		}
		if one.alone > worst.alone {
			worst = one
		}
		took = append(took, one.alone)
	}
	row("of that: a processor's time while nothing is collected", took)
	return worst, nil
}

func row(name string, took []time.Duration) {
	slices.Sort(took)
	n := len(took)
	fmt.Printf("| %s | %d | %.3f ms | %.3f ms |\n", name, n, milliseconds(took[n/2]), milliseconds(took[n*99/100]))
}

// measured is one change.
type measured struct {
	object k8sruntime.Object
	keys   []render.Key
	// alone is what the thread used that made the change: work divided among goroutines (more than some objects at a time) is not in it.
	took, alone time.Duration
}

// measure makes a change, and then, not measured, has API and nodes answer.
func (a *api) measure(o k8sruntime.Object) (measured, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := measured{object: o}
	used, start := threadTime(), time.Now()
	if err := a.cluster.Set(o); err != nil {
		return m, fmt.Errorf("compiling: %w", err)
	}
	m.keys = a.cluster.Dirty()
	for _, key := range m.keys {
		a.cluster.Desired(key)
	}
	m.took, m.alone = time.Since(start), threadTime()-used
	return m, a.write(m.keys)
}

// what the change was about and what it touched.
func (m *measured) what() string {
	count := map[render.Kind]int{}
	for _, key := range m.keys {
		count[key.Kind]++
	}
	var touched []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		touched = append(touched, fmt.Sprintf("%d %s", count[kind], kind))
	}
	name := "an object"
	if o, ok := m.object.(interface {
		GetNamespace() string
		GetName() string
	}); ok {
		name = strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")
	}
	return fmt.Sprintf("%s, which touched %s", name, strings.Join(touched, ", "))
}

// threadTime is what the calling thread has used so far.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
