package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

const (
	// powered are a page on each worker, behind an external IP that both advertise to host1, each in a session of its own.
	powered = `
apiVersion: v1
kind: Namespace
metadata: {name: power}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: power}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: power}
spec:
  externalTrafficPolicy: Local
  type: NodePort
  externalIPs: [10.50.0.77]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  serviceClusterIPs: [{cidr: 10.49.0.0/16}]
  serviceExternalIPs: [{cidr: 10.50.0.0/24}]
  serviceLoadBalancerIPs: [{cidr: 10.51.0.0/24}]
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: over-the-switch}
spec: {node: worker1, peerIP: 10.0.0.20, asNumber: 64513, keepaliveTime: 1s}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: by-cable}
spec: {node: worker2, peerIP: 10.0.1.1, asNumber: 64513, keepaliveTime: 1s, sourceAddress: None}
`
	poweredAddress = "10.50.0.77"
	// poweredRouter is BIRD on host1, which reaches worker1 by the network that all hosts share, and worker2 by a cable of their own, at which
	// it looks.
	poweredRouter = `router id 10.0.0.20;
protocol device { scan time 1; }
protocol direct { ipv4; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; merge paths on; }
protocol bgp worker1 { local 10.0.0.20 as 64513; neighbor 10.0.0.11 as 64512; graceful restart off; connect delay time 1; error wait time 1,2; ipv4 { import all; export none; }; }
protocol bgp worker2 { local 10.0.1.1 as 64513; neighbor 10.0.1.2 as 64512; graceful restart off; check link yes; connect delay time 1; error wait time 1,2; ipv4 { import all; export none; }; }
`
)

// power pulls the power of a worker: what host1 sends to a service goes to the other one, when the hold time is over where nothing tells
// host1 that the worker is gone (three seconds here), and at once where its interface goes down. How long connections failed is logged.
func power(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	cables := "manul-" + c.Name + "-"
	in := func(t *testing.T, host string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(context.WithoutCancel(ctx), "ip", append([]string{"-n", cables + host}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %v in %s: %v: %s", args, host, err, out)
		}
	}
	if _, err := c.Kubectl(ctx, "delete", "bgppeers", "--all"); err != nil {
		t.Fatal(err)
	}
	in(t, "host1", "link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", cables+"worker2")
	t.Cleanup(func() { in(t, "host1", "link", "delete", "cable0") })
	in(t, "host1", "address", "add", "10.0.1.1/30", "dev", "cable0")
	in(t, "worker2", "address", "add", "10.0.1.2/30", "dev", "cable0")
	in(t, "host1", "link", "set", "cable0", "up")
	in(t, "worker2", "link", "set", "cable0", "up")
	routed(ctx, t, c, poweredRouter)
	if _, err := c.On(ctx, "host1", "sysctl", "-q", "-w", "net.ipv4.fib_multipath_hash_policy=1"); err != nil {
		t.Fatal(err) // by ports, so that connections go over both
	}
	if err := c.Apply(ctx, powered); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if _, err := c.Kubectl(ctx, "delete", "bgppeers", "over-the-switch", "by-cable"); err != nil {
			t.Error(err)
		}
		if _, err := c.Kubectl(ctx, "delete", "namespace", "power", "--timeout=120s"); err != nil {
			t.Error(err)
		}
		// Router and peer are again those of the walk-through.
		manifests := filepath.Join(c.Project, "docs", "guide", "manifests")
		router, err := os.ReadFile(filepath.Join(manifests, "host1-bird.conf"))
		if err != nil {
			t.Fatal(err)
		}
		routed(ctx, t, c, string(router))
		for _, args := range [][]string{
			{"apply", "-f", filepath.Join(manifests, "bgp-peer.yaml")},
			{"wait", "--for=condition=Established", "bgppeer/host1", "--timeout=120s"},
			{"wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s"},
		} {
			if _, err := c.Kubectl(ctx, args...); err != nil {
				t.Error(err)
			}
		}
	})
	ways := func(t *testing.T, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("host1 reaches the service by %v", want), func(ctx context.Context) error {
			out, err := c.On(ctx, "host1", "ip", "route", "show", poweredAddress+"/32")
			for _, via := range []string{"10.0.0.11", "10.0.1.2"} {
				wanted := false
				for _, w := range want {
					wanted = wanted || w == via
				}
				if err == nil && strings.Contains(out, "via "+via) != wanted {
					err = fmt.Errorf("the route is %q", out)
				}
			}
			return err
		})
	}
	for _, tc := range []struct {
		name       string
		cut, mend  []string
		host, left string
	}{
		{"nothing tells the router", []string{"link", "set", "worker1", "nomaster"}, []string{"link", "set", "worker1", "master", "br0"}, "fabric", "10.0.1.2"},
		{"the router's interface goes down", []string{"link", "set", "cable0", "down"}, []string{"link", "set", "cable0", "up"}, "worker2", "10.0.0.11"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ways(t, "10.0.0.11", "10.0.1.2")
			p := &probing{dial: c.Dialer("host1")}
			p.begin(t.Context())
			eventually(t, "connections come about", p.more(50))
			cut := time.Now()
			in(t, tc.host, tc.cut...)
			ways(t, tc.left)
			after := &probing{dial: c.Dialer("host1"), patience: 20 * time.Second} // whatever else the machine does
			after.begin(t.Context())
			eventually(t, "connections come about", after.more(50))
			if lost := after.end(cut); lost > 0 {
				t.Errorf("a connection failed that was begun %s after the cut, when the router knew of it", lost)
			}
			outage := p.end(cut)
			in(t, tc.host, tc.mend...)
			t.Logf("the last connection that did not come about within %s was begun %s after the cut", probeTime, outage.Round(time.Millisecond))
		})
	}
	ways(t, "10.0.0.11", "10.0.1.2")
}

// routed has BIRD run on host1 with a configuration.
func routed(ctx context.Context, t *testing.T, c *lab.Cluster, configuration string) {
	t.Helper()
	write := c.Command(ctx, "host1", "sh", "-c", "mkdir -p /etc/bird && cat > /etc/bird/cluster.conf")
	write.Stdin = strings.NewReader(configuration)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("writing BIRD's configuration: %v: %s", err, out)
	}
	_ = c.Component(ctx, "stop", "host1", "router") // it may not run
	if err := c.Component(ctx, "start", "host1", "router"); err != nil {
		t.Fatal(err)
	}
}

// probing opens a connection to the service every few milliseconds, each from another port, and does not wait for one before the next.
type probing struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// patience bounds a connection. Default: probeTime.
	patience time.Duration
	stop     context.CancelFunc
	all      sync.WaitGroup

	mu   sync.Mutex
	good int
	lost []time.Time // when those were begun that did not come about in time
}

const (
	probeEvery = 20 * time.Millisecond
	// probeTime is less than a second, after which the kernel would try again.
	probeTime = 500 * time.Millisecond
)

func (p *probing) begin(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	p.all.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.all.Go(func() { p.one(context.WithoutCancel(ctx)) })
			}
		}
	})
}

func (p *probing) one(ctx context.Context) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.patience, probeTime))
	defer cancel()
	conn, err := p.dial(ctx, "tcp", poweredAddress+":80")
	if err == nil {
		_ = conn.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.good++
	} else {
		p.lost = append(p.lost, begun)
	}
}

// more tells whether so many more connections have come about than now.
func (p *probing) more(count int) func(context.Context) error {
	good := func() int { p.mu.Lock(); defer p.mu.Unlock(); return p.good }
	from := good()
	return func(context.Context) error {
		if now := good(); now < from+count {
			return fmt.Errorf("%d do, want %d", now-from, count)
		}
		return nil
	}
}

// end ends it, and tells how long after a moment the last connection was begun that did not come about.
func (p *probing) end(since time.Time) time.Duration {
	p.stop()
	p.all.Wait()
	last := since
	for _, at := range p.lost {
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(since)
}
