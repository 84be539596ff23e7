package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// routed is a service with its endpoint on worker1, which alone is to advertise its external IP, to BIRD on host1; and another, whose endpoint is made
// by hand, so that no kubelet's probes count.
const routed = `
apiVersion: v1
kind: Service
metadata: {name: routed, namespace: bench}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {role: server}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: followed, namespace: bench}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  externalIPs: [10.50.0.31]
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: followed, namespace: bench, labels: {kubernetes.io/service-name: followed}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.77], nodeName: worker1, conditions: {ready: false}}]
ports: [{port: 8080}]
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  serviceExternalIPs: [{cidr: 10.50.0.0/24}]
`

const routedAddress, followedAddress = "10.50.0.30", "10.50.0.31"

// routes measures how soon a change of a service reaches the kernel of a router.
func (b *bench) routes(ctx context.Context, t *table) error {
	manifests := filepath.Join(b.Project, "docs", "guide", "manifests")
	configuration, err := os.Open(filepath.Join(manifests, "host1-bird.conf"))
	if err != nil {
		return fmt.Errorf("reading the router's configuration: %w", err)
	}
	defer configuration.Close()
	write := b.Command(ctx, "host1", "sh", "-c", "mkdir -p /etc/bird && cat > /etc/bird/cluster.conf")
	write.Stdin = configuration
	if out, err := write.CombinedOutput(); err != nil {
		return fmt.Errorf("writing the router's configuration: %w: %s", err, out)
	}
	if err := b.Component(ctx, "start", "host1", "router"); err != nil {
		return err
	}
	if err := b.Apply(ctx, routed); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "apply", "-f", filepath.Join(manifests, "bgp-peer.yaml")); err != nil {
		return err
	}
	if err := lab.Eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		out, err := b.On(ctx, "host1", "ip", "route", "show", "10.50.0.0/24")
		if err == nil && !strings.Contains(out, "10.0.0.11") {
			err = fmt.Errorf("the router's route of external IPs is %q", out)
		}
		return err
	}); err != nil {
		return err
	}
	for _, change := range []struct{ benchmark, address, there, gone string }{
		{
			"routes", routedAddress, "service gets an external IP -> the router's kernel has the route",
			"the same, taken away -> the router's kernel has it no more",
		},
		{
			"endpoints", followedAddress, "endpoint of a Local service becomes ready -> the router's kernel has the route",
			"the same, unready -> the router's kernel has it no more",
		},
	} {
		moments, events, err := b.follow(ctx, change.benchmark, change.address)
		if err != nil {
			return err
		}
		t.row(change.there, reached(moments, events, "there"))
		t.row(change.gone, reached(moments, events, "gone"))
	}
	_, err = b.Kubectl(ctx, "delete", "bgppeer/host1", "service/routed", "service/followed", "endpointslice/followed", "-n", "bench")
	return err
}

// follow has test/bench make changes, and listens to what the router's kernel says of an address meanwhile.
func (b *bench) follow(ctx context.Context, benchmark, address string) (changes, events []moment, err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watch := b.Command(watching, "host1", "env", "TZ=UTC", "ip", "-ts", "monitor", "route")
	out, err := watch.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("watching the router's routes: %w", err)
	}
	if err := watch.Start(); err != nil {
		return nil, nil, fmt.Errorf("watching the router's routes: %w", err)
	}
	seen := make(chan []moment, 1)
	go func() { seen <- eventsOf(bufio.NewScanner(out), address) }()
	answered, err := b.inside(ctx, "master1", benchmark)
	stop()
	events = <-seen
	_ = watch.Wait() // it was ended
	if err != nil {
		return nil, nil, err
	}
	changes, err = decode[moment](answered)
	return changes, events, err
}

// eventsOf reads what "ip -ts monitor route" says of an address: when its route came and went.
func eventsOf(lines *bufio.Scanner, address string) []moment {
	var all []moment
	for lines.Scan() {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "["), "] ")
		at, err := time.Parse("2006-01-02T15:04:05.000000", stamp)
		rest, deleted := strings.CutPrefix(rest, "Deleted ")
		if err != nil || !strings.HasPrefix(rest, address+" ") {
			continue
		}
		m := moment{Name: "there", At: at.UnixNano()}
		if deleted {
			m.Name = "gone"
		}
		all = append(all, m)
	}
	return all
}

// reached finds, for each change of a kind, how long after the API server's answer the router had it. The router may have it before
// the answer arrives: that counts as 0. A change that it never had is left out.
func reached(changes, events []moment, kind string) []time.Duration {
	const early = int64(50 * time.Millisecond)
	var took []time.Duration
	for i, c := range changes {
		if c.Name != kind {
			continue
		}
		end := int64(1<<63 - 1)
		if i+1 < len(changes) {
			end = changes[i+1].At
		}
		at := slices.IndexFunc(events, func(e moment) bool { return e.Name == kind && e.At > c.At-early && e.At < end })
		if at >= 0 {
			took = append(took, max(0, time.Duration(events[at].At-c.At)))
		}
	}
	return took
}
