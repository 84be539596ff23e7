// Command compile prints how long the compiler takes for a large cluster, how much memory it holds, how large the rendered
// objects are, and how long single changes take, from the object that a watch brings to the rendered objects that follow. No
// API server takes part.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
	"github.com/manul-net/manul/test/bench/clusters"
)

func main() {
	var s clusters.Shape
	flag.IntVar(&s.Nodes, "nodes", 5_000, "nodes of the cluster")
	flag.IntVar(&s.Pods, "pods", 150_000, "pods of the cluster")
	flag.IntVar(&s.Policies, "policies", 10_000, "policies of the cluster")
	flag.IntVar(&s.Namespaces, "namespaces", 500, "namespaces of the cluster")
	flag.Uint64Var(&s.Seed, "seed", 1, "which pods and policies change")
	n := flag.Int("n", 1_000, "how many changes are measured")
	var profiles profiles
	flag.StringVar(&profiles.cold, "coldprofile", "", "file for a CPU profile of the cold start")
	flag.StringVar(&profiles.changes, "cpuprofile", "", "file for a CPU profile of the changes, one after the other")
	flag.Parse()
	if err := run(s, *n, profiles); err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

// profiles are files for CPU profiles; empty: none.
type profiles struct{ cold, changes string }

// profiled runs do and writes a CPU profile of it into a file, if one is named.
func profiled(file string, do func() error) error {
	if file == "" {
		return do()
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("opening the profile: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer pprof.StopCPUProfile()
	return do()
}

func run(s clusters.Shape, n int, profiles profiles) error {
	if err := s.Check(); err != nil {
		return err
	}
	c := clusters.New(s)
	// The objects are made first: in an operator the client's cache holds them, whatever the compiler does.
	var objects []k8sruntime.Object
	c.Objects(func(o k8sruntime.Object) { objects = append(objects, o) })
	before := heap()

	cluster := render.New()
	var keys []render.Key
	var learned, brought, rendered, processor time.Duration
	err := profiled(profiles.cold, func() error {
		start, used := time.Now(), processorTime()
		for p := range prepared(objects) {
			if err := cluster.SetPrepared(p); err != nil {
				return fmt.Errorf("compiling: %w", err)
			}
		}
		learned = time.Since(start)
		keys = cluster.Dirty()
		brought = time.Since(start) - learned
		cluster.Contents(keys)
		rendered = time.Since(start) - learned - brought
		processor = processorTime() - used
		return nil
	})
	if err != nil {
		return err
	}
	cold := learned + brought + rendered
	fmt.Printf("# %d nodes, %d pods, %d policies in %d namespaces\n| figure | n | p50 | p99 |\n|---|---|---|---|\n", s.Nodes, s.Pods, s.Policies, s.Namespaces)
	fmt.Printf("| compile and render all, from cold | 1 | %.2f s | |\n", cold.Seconds())
	fmt.Printf("| of that: taking in the objects; what follows from them; rendering | 1 | %.2f; %.2f; %.2f s | |\n", learned.Seconds(), brought.Seconds(), rendered.Seconds())
	fmt.Printf("| processor time of all that, with %d processors | 1 | %.2f s | |\n", runtime.GOMAXPROCS(0), processor.Seconds())
	held := heap() - before
	fmt.Printf("| memory that the compiler holds, the users' objects apart | 1 | %.0f MiB | |\n", held/(1<<20))
	fmt.Printf("| memory with the users' objects | 1 | %.0f MiB | |\n", heap()/(1<<20))
	runtime.KeepAlive(objects)
	if err := sizes(cluster, keys); err != nil {
		return err
	}
	server := &api{cluster: cluster}
	if err := server.write(keys); err != nil {
		return err
	}
	return profiled(profiles.changes, func() error { return changes(c, server, n) })
}

// prepared brings objects as the informers do, that is, another goroutine works out what follows from each alone.
func prepared(objects []k8sruntime.Object) <-chan render.Prepared {
	const ahead = 1024
	out := make(chan render.Prepared, ahead)
	go func() {
		defer close(out)
		for _, o := range objects {
			out <- render.Prepare(o)
		}
	}()
	return out
}

// processorTime is what the program has used so far. Unlike the time that passes it does not depend on what else the machine does.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sizes prints the largest rendered object of each kind, as JSON.
func sizes(cluster *render.Cluster, keys []render.Key) error {
	largest := map[render.Kind]int{}
	count := map[render.Kind]int{}
	for _, key := range keys {
		text, err := json.Marshal(cluster.Desired(key))
		if err != nil {
			return fmt.Errorf("encoding %s %s: %w", key.Kind, key.Name, err)
		}
		largest[key.Kind] = max(largest[key.Kind], len(text))
		count[key.Kind]++
	}
	for _, kind := range []render.Kind{render.KindNodeState, render.KindNodeEndpoints, render.KindNodeNetwork, render.KindPolicyProgram, render.KindSetCatalog} {
		fmt.Printf("| largest %s | %d | %.1f KiB | |\n", kind, count[kind], float64(largest[kind])/1024)
	}
	return nil
}

// api stands for the API server, which keeps rendered objects, and for the nodes, which acknowledge them.
type api struct {
	cluster *render.Cluster
	version int
}

// rounds bounds what follows from what is written, and from that again.
const rounds = 8

// write keeps objects, and all that follows from their being kept, until nothing does.
func (a *api) write(keys []render.Key) error {
	for range rounds {
		for _, key := range keys {
			if err := a.keep(key); err != nil {
				return err
			}
		}
		a.cluster.DirtyPolicies()
		if keys = a.cluster.Dirty(); len(keys) == 0 {
			return nil
		}
	}
	return fmt.Errorf("after %d rounds of writing there are %d objects that differ still", rounds, len(keys))
}

func (a *api) keep(key render.Key) error {
	o := a.cluster.Desired(key)
	a.version++
	if o == nil {
		return nil
	}
	if m, ok := o.(metav1.Object); ok {
		m.SetResourceVersion(fmt.Sprint(a.version))
		m.SetGeneration(int64(a.version))
	}
	if state, ok := o.(*v1alpha1.NodeState); ok {
		state.Status.ObservedGeneration = state.Generation
		state.Status.Applied = map[string]string{}
		for _, kind := range []render.Kind{render.KindSetCatalog, render.KindPolicyProgram, render.KindNodeEndpoints, render.KindNodeNetwork} {
			state.Status.Applied[string(kind)] = "1000000000"
		}
		for i := range state.Spec.Endpoints {
			e := &state.Spec.Endpoints[i]
			var pod int
			if _, err := fmt.Sscanf(string(e.UID), "uid-%d", &pod); err == nil {
				state.Status.Endpoints = append(state.Status.Endpoints, v1alpha1.EndpointStatus{ID: e.ID, UID: e.UID, Addresses: []string{clusters.AddressOf(pod).String()}})
			}
		}
	}
	if err := a.cluster.Set(o); err != nil {
		return fmt.Errorf("observing %s %s: %w", key.Kind, key.Name, err)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
