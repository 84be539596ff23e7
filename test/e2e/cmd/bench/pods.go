package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// batches is how often pods are made all at once, and batch how many.
const (
	batches = 6
	batch   = 30
)

// elsewhere are servers on the nodes that have none, so that each of them has a policy that names the new pods of the first.
const elsewhere = `
apiVersion: v1
kind: Pod
metadata: {name: elsewhere-worker2, namespace: bench, labels: {role: server}}
spec:
  nodeName: worker2
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere-master1, namespace: bench, labels: {role: server}}
spec:
  nodeName: master1
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
`

// podsAndWrites measures the start of pods, how soon other nodes' policies know them, and what each costs the API server.
func (b *bench) podsAndWrites(ctx context.Context, t *table) error {
	if err := b.Apply(ctx, elsewhere); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "wait", "-n", "bench", "--for=condition=Ready", "pod/elsewhere-worker2", "pod/elsewhere-master1", "--timeout=120s"); err != nil {
		return err
	}
	if err := b.apply(ctx, "guard", guard); err != nil {
		return err
	}
	before, err := b.writes(ctx)
	if err != nil {
		return err
	}
	reached, err := b.watchArrivals(ctx, "worker1", []string{"worker2", "master1"})
	if err != nil {
		return err
	}
	var made starts
	for range batches {
		err = errors.Join(err, made.measure(ctx, b))
	}
	spread, ahead, watching := reached()
	if err := errors.Join(err, watching); err != nil {
		return err
	}
	if !b.has("reference") {
		made.rows(t, "Manul")
	}
	t.row("pod's address in its own node's sets -> in those of all other nodes whose policies name it", spread)
	t.row("the latter -> the pod has its route, before which it can send nothing", ahead)
	late := 0
	for _, d := range ahead {
		if d < 0 {
			late++
		}
	}
	t.value("pods that had their route before all others had their address", float64(late), fmt.Sprintf("of %d", len(ahead)))
	after, err := b.writes(ctx)
	if err != nil {
		return err
	}
	t.value("writes of manul.dev objects per pod made and removed", float64(after-before)/float64(len(made.alone)+batches*batch), "")
	_, err = b.Kubectl(ctx, "delete", "-n", "bench", "--wait=false", "networkpolicies.projectcalico.org/guard", "pod/elsewhere-worker2", "pod/elsewhere-master1")
	return err
}

// reference measures pods on this cluster and on another with the reference plugins, in turn: a machine is not the same an hour later. The
// policies of this cluster are those that were there before.
func (b *bench) reference(ctx context.Context, t *table) error {
	other := *b
	other.Cluster = &lab.Cluster{Project: b.Project, Name: b.Name + "ptp", Log: b.Log}
	return other.on(ctx, "ptp", func() error {
		var ours, theirs starts
		for round := range batches {
			both := []func() error{func() error { return ours.measure(ctx, b) }, func() error { return theirs.measure(ctx, &other) }}
			if round%2 == 1 {
				slices.Reverse(both)
			}
			for _, measure := range both {
				if err := measure(); err != nil {
					return err
				}
			}
		}
		ours.rows(t, "Manul")
		theirs.rows(t, "ptp, host-local")
		return nil
	})
}

// starts are how long pods took: alone, and all of a batch.
type starts struct{ alone, batch []time.Duration }

// measure makes some pods one after the other, and then a batch.
func (s *starts) measure(ctx context.Context, b *bench) error {
	for _, what := range []struct {
		args []string
		name string
		into *[]time.Duration
	}{
		{[]string{"pods", "-n", fmt.Sprint((b.n + batches - 1) / batches)}, "running", &s.alone},
		{[]string{"batch", "-n", fmt.Sprint(batch)}, "batch", &s.batch},
	} {
		out, err := b.inside(ctx, "master1", what.args...)
		if err != nil {
			return err
		}
		took, err := lengths(out)
		if err != nil {
			return err
		}
		*what.into = append(*what.into, took[what.name]...)
	}
	return nil
}

func (s *starts) rows(t *table, network string) {
	t.row("pod created -> Running ("+network+")", s.alone)
	t.row(fmt.Sprintf("%d pods created at once on a node -> all Running (%s)", batch, network), s.batch)
}

// watchArrivals has the kernels of all nodes tell when they learn of addresses. What it returns ends that, and tells for each pod of
// the node home what reach finds.
func (b *bench) watchArrivals(ctx context.Context, home string, others []string) (func() (spread, ahead []time.Duration, err error), error) {
	kubeconfig, err := b.Kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	type watcher struct {
		cmd *exec.Cmd
		out *lines
	}
	watchers := map[string]watcher{}
	stop := func() {
		cancel()
		for _, w := range watchers {
			_ = w.cmd.Wait() // ended by us
		}
	}
	for _, host := range append([]string{home}, others...) {
		w := watcher{cmd: b.Command(ctx, host, b.program, "arrivals", "-kubeconfig", kubeconfig), out: &lines{}}
		w.cmd.Stdout, w.cmd.Stderr = w.out, os.Stderr
		if err := w.cmd.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("watching the kernel of %s: %w", host, err)
		}
		watchers[host] = w
	}
	if err := lab.Eventually(ctx, 30*time.Second, func(context.Context) error {
		for host, w := range watchers {
			if !strings.Contains(w.out.String(), "watching") {
				return fmt.Errorf("the kernel of %s is not watched yet", host)
			}
		}
		return nil
	}); err != nil {
		stop()
		return nil, err
	}
	return func() (spread, ahead []time.Duration, err error) {
		stop()
		seen := map[string][]arrival{}
		for host, w := range watchers {
			if seen[host], err = decode[arrival](w.out.whole()); err != nil {
				return nil, nil, err
			}
		}
		spread, ahead = reach(seen, home, others)
		return spread, ahead, nil
	}, nil
}

// arrival is a line of "bench arrivals".
type arrival struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	At      int64      `json:"at"`
}

// reach finds for each pod of home how long after home's own policies knew its address the last of the others did, and how long before
// the pod had its route: it can't send anything earlier. An agent gives addresses as pods are bound to its node, before the runtime asks.
func reach(seen map[string][]arrival, home string, others []string) (spread, ahead []time.Duration) {
	for _, route := range seen[home] {
		if route.Name != "route" {
			continue
		}
		own, known := before(seen[home], route)
		last, everywhere := int64(0), true
		for _, host := range others {
			e, ok := before(seen[host], route)
			last, everywhere = max(last, e.At), everywhere && ok
		}
		if known && everywhere {
			spread, ahead = append(spread, time.Duration(last-own.At)), append(ahead, time.Duration(route.At-last))
		}
	}
	return spread, ahead
}

// before is the last time that a host's sets got the address of a route until a second after the route: an address is used again later.
func before(seen []arrival, route arrival) (last arrival, ok bool) {
	for _, e := range seen {
		if e.Name == "element" && e.Address == route.Address && e.At < route.At+int64(time.Second) {
			last, ok = e, true
		}
	}
	return last, ok
}
