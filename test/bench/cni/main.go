// Command cni measures the CNI plugin's ADD and DEL: the plugin's program as a runtime starts it, and the agent with its journal,
// its socket and its drivers (nftables, routes), on a node in network namespaces of this machine. No cluster is needed, but root.
//
// What the agent takes of that, from a request's arrival to its answer, is printed beside; the rest is the start of a process, the interface,
// addresses and routes.
//
//	go run ./test/bench/cni            200 alone, and 4 rounds of 50 at once
//	go run ./test/bench/cni -n 20 -rounds 1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/manul-net/manul/nodeagent/cniserver"
	"github.com/manul-net/manul/test/cnilab"
	"github.com/manul-net/manul/test/cniplugins"
)

func main() {
	n := flag.Int("n", 200, "how many pods alone, one after another")
	rounds := flag.Int("rounds", 4, "how often many pods at once")
	together := flag.Int("together", 50, "how many at once")
	flag.Parse()
	if err := run(context.Background(), *n, *rounds, *together); err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, alone, rounds, together int) (err error) {
	dir, err := os.MkdirTemp("", "manul-bench-cni-")
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	plugin, err := cniplugins.Manul(ctx, dir)
	if err != nil {
		return err
	}
	// The node knows its pods before the runtime asks, as it does in a cluster.
	pods := cnilab.Pods(max(together, 1))
	operator := cnilab.NewOperator("10.48.0.0/24")
	operator.SetPods(pods...)
	node, err := cnilab.New(dir, plugin, operator)
	if err != nil {
		return err
	}
	node.AddWait = 20 * time.Second
	b := bench{node: node, took: map[string][]time.Duration{}, agent: map[string][]time.Duration{}}
	node.Observe = b.observe
	defer func() {
		if e := node.Close(); err == nil {
			err = e
		}
	}()
	if err := node.Start(ctx); err != nil {
		return err
	}
	for i := range alone + 1 {
		if err := b.round(fmt.Sprintf("alone-%d", i), pods[:1], "alone"); err != nil {
			return err
		}
		if i == 0 {
			b.forget() // the first waits for the agent's start
		}
	}
	for i := range rounds {
		if err := b.round(fmt.Sprintf("together-%d", i), pods, fmt.Sprintf("%d at once", together)); err != nil {
			return err
		}
	}
	for _, what := range []string{"alone", fmt.Sprintf("%d at once", together)} {
		for _, command := range []string{"ADD", "DEL"} {
			list := b.took[command+" "+what]
			if len(list) == 0 {
				continue
			}
			slices.Sort(list)
			agent := b.agent[command+" "+what]
			slices.Sort(agent)
			fmt.Printf("cni %s, %s: n %d, p50 %.2f ms, p99 %.2f ms; of it the agent: p50 %.2f ms, p99 %.2f ms\n", command, what, len(list),
				ms(quantile(list, 50)), ms(quantile(list, 99)), ms(quantile(agent, 50)), ms(quantile(agent, 99)))
		}
	}
	return nil
}

// quantile of a sorted list, in percent.
func quantile(list []time.Duration, percent int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[min(len(list)*percent/100, len(list)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

type bench struct {
	node *cnilab.Node
	mu   sync.Mutex
	// took and agent are what calls took, and the agent's part of them, by command and what is measured.
	took, agent map[string][]time.Duration
	now         string
}

// observe takes the agent's word of a request.
func (b *bench) observe(o cniserver.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agent[b.now] = append(b.agent[b.now], o.Took)
}

func (b *bench) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.took)
	clear(b.agent)
}

// round adds sandboxes of pods to the network at the same time, and then removes them at the same time.
func (b *bench) round(id string, pods []string, what string) error {
	var sandboxes []*cnilab.Sandbox
	for i, pod := range pods {
		s, err := b.node.Sandbox(pod, fmt.Sprintf("%s-%d", id, i))
		if err != nil {
			return err
		}
		sandboxes = append(sandboxes, s)
	}
	if err := b.each(sandboxes, "ADD "+what, (*cnilab.Sandbox).Add); err != nil {
		return err
	}
	if err := b.each(sandboxes, "DEL "+what, (*cnilab.Sandbox).Del); err != nil {
		return err
	}
	for _, s := range sandboxes {
		if err := s.Remove(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) each(list []*cnilab.Sandbox, what string, call func(*cnilab.Sandbox) (time.Duration, error)) error {
	b.mu.Lock()
	b.now = what
	b.mu.Unlock()
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, s := range list {
		all.Go(func() {
			took, err := call(s)
			errs[i] = err
			b.mu.Lock()
			b.took[what] = append(b.took[what], took)
			b.mu.Unlock()
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}
