package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

const (
	// crowd is a pool of 64 addresses in blocks of eight, and a Deployment whose pods ask for addresses of it. The control plane's
	// node takes part.
	crowd = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: crowd}
spec: {cidr: 10.48.32.0/26, blockSize: 29, assignmentMode: Manual}
---
apiVersion: v1
kind: Namespace
metadata:
  name: crowd
  annotations: {cni.projectcalico.org/ipv4pools: '["crowd"]'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd, namespace: crowd}
spec:
  replicas: 0
  selector: {matchLabels: {app: crowd}}
  template:
    metadata: {labels: {app: crowd}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: crowd}}, nodeTaintsPolicy: Ignore}
      containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
`
	crowdPool    = 64
	churnRounds  = 10
	podsPerRound = 50
	manyPods     = 5 * time.Minute // for all pods of a round to start or to be gone, on a slow machine
)

// addresses fills a pool to its last address, and makes and removes pods in numbers: no address is given twice, and in the end none
// is held.
func addresses(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	if err := c.Apply(ctx, crowd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if _, err := c.Kubectl(ctx, "delete", "namespace", "crowd", "--timeout=240s"); err != nil {
			t.Error(err)
		}
		// It is refused until the nodes have given up the last address.
		if err := lab.Eventually(ctx, manyPods, func(ctx context.Context) error {
			_, err := c.Kubectl(ctx, "delete", "ippool", "crowd")
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a pool of 64 addresses is filled to the last one over three nodes", func(t *testing.T) { filled(t, c) })
	t.Run("500 pods come and go in ten rounds", func(t *testing.T) { churn(t, c) })
}

func filled(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	scale(t, c, crowdPool)
	within(t, c, "every address of the pool belongs to a pod that runs", func(ctx context.Context) error { return allRun(ctx, c, crowdPool) })
	// One more is told which pool is full, and starts once there is an address.
	scale(t, c, crowdPool+1)
	within(t, c, "the pod without an address is told why", func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "get", "events", "-n", "crowd", "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
		if err == nil && (!strings.Contains(out, "IPPool crowd") || !strings.Contains(out, "64 of 64")) {
			err = fmt.Errorf("events of the namespace: %s", out)
		}
		return err
	})
	if err := allRun(ctx, c, crowdPool); err != nil {
		t.Error(err)
	}
	scale(t, c, crowdPool)
	within(t, c, "all 64 run", func(ctx context.Context) error { return allRun(ctx, c, crowdPool) })
	scale(t, c, 0)
	within(t, c, "no address is held", func(ctx context.Context) error { return held(ctx, c, 0) })
}

func churn(t *testing.T, c *lab.Cluster) {
	before, err := attachments(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for range churnRounds {
		scale(t, c, podsPerRound)
		within(t, c, "the pods of a round run", func(ctx context.Context) error { return allRun(ctx, c, podsPerRound) })
		scale(t, c, 0)
	}
	within(t, c, "no address is held", func(ctx context.Context) error { return held(ctx, c, 0) })
	within(t, c, "all blocks are accounted for", func(ctx context.Context) error { return accounted(ctx, c) })
	within(t, c, "nodes have the interfaces they had", func(ctx context.Context) error {
		after, err := attachments(ctx, c)
		if err == nil && !maps.Equal(before, after) {
			err = fmt.Errorf("interfaces of pods before %v, after %v", before, after)
		}
		return err
	})
}

func scale(t *testing.T, c *lab.Cluster, n int) {
	t.Helper()
	if _, err := c.Kubectl(t.Context(), "scale", "-n", "crowd", "deployment/crowd", fmt.Sprintf("--replicas=%d", n)); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, c *lab.Cluster, what string, condition func(context.Context) error) {
	t.Helper()
	if err := lab.Eventually(t.Context(), manyPods, condition); err != nil {
		out, _ := c.Kubectl(t.Context(), "get", "ipamblocks,blockaffinities") // what one would look at next, if it can be had
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
}

// allRun wants n pods that run, each with an address of the pool that no other has, and the nodes to hold just these.
func allRun(ctx context.Context, c *lab.Cluster, n int) error {
	out, err := c.Kubectl(ctx, "get", "pods", "-n", "crowd", "--field-selector=status.phase=Running", "-o",
		`jsonpath={range .items[?(@.status.podIP)]}{.metadata.name} {.status.podIP}{"\n"}{end}`)
	if err != nil {
		return err
	}
	pool := netip.MustParsePrefix("10.48.32.0/26")
	holders := map[netip.Addr]string{}
	for line := range strings.Lines(out) {
		pod, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		address, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("address of %s: %w", pod, err)
		}
		if !pool.Contains(address) {
			return fmt.Errorf("%s has %s, which is not of the pool", pod, address)
		}
		if other, ok := holders[address]; ok {
			return fmt.Errorf("%s and %s both have %s", pod, other, address)
		}
		holders[address] = pod
	}
	if len(holders) != n {
		return fmt.Errorf("%d pods run, want %d", len(holders), n)
	}
	return held(ctx, c, n)
}

// held wants the nodes' states to name n addresses that pods of the crowd hold, each once.
func held(ctx context.Context, c *lab.Cluster, n int) error {
	out, err := c.Kubectl(ctx, "get", "nodestates", "-o", `jsonpath={range .items[*].status.endpoints[*]}{.id} {.addresses[*]}{"\n"}{end}`)
	if err != nil {
		return err
	}
	var found []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "crowd/") {
			found = append(found, f[1:]...)
		}
	}
	slices.Sort(found)
	if len(slices.Compact(slices.Clone(found))) != len(found) {
		return fmt.Errorf("an address is held twice: %v", found)
	}
	if len(found) != n {
		return fmt.Errorf("%d addresses are held, want %d", len(found), n)
	}
	return nil
}

// accounted wants every block to be some node's, with an affinity that says the same, no affinity without a block, and no address lent.
func accounted(ctx context.Context, c *lab.Cluster) error {
	list := func(kind, columns string) ([]string, error) {
		out, err := c.Kubectl(ctx, "get", kind, "-o", "jsonpath={range .items[*]}"+columns+`{"\n"}{end}`)
		lines := slices.Sorted(strings.Lines(out))
		return lines, err
	}
	blocks, err := list("ipamblocks", "{.spec.cidr} {.spec.affinity}")
	if err != nil {
		return err
	}
	affinities, err := list("blockaffinities", "{.spec.cidr} {.spec.type}:{.spec.node}")
	if err != nil {
		return err
	}
	if len(blocks) == 0 || !slices.Equal(blocks, affinities) {
		return fmt.Errorf("blocks are\n%saffinities are\n%s", strings.Join(blocks, ""), strings.Join(affinities, ""))
	}
	lent, err := list("ipamblocks", "{.spec.attributes[*].secondary.node}")
	if err != nil {
		return err
	}
	if nodes := strings.TrimSpace(strings.Join(lent, "")); nodes != "" {
		return fmt.Errorf("addresses are lent to %s", strings.Fields(nodes))
	}
	return nil
}

// attachments counts the interfaces of pods on each node.
func attachments(ctx context.Context, c *lab.Cluster) (map[string]int, error) {
	count := map[string]int{}
	for _, host := range []string{"master1", "worker1", "worker2"} {
		out, err := c.On(ctx, host, "ip", "-o", "link", "show", "type", "veth")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, ": cali") {
				count[host]++
			}
		}
	}
	return count, nil
}
