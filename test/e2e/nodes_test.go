package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// lostPods are a sender on worker1 and a receiver on the node that gets lost, with addresses of the pool whose mode changes.
const lostPods = `
apiVersion: v1
kind: Namespace
metadata: {name: lost, annotations: {cni.projectcalico.org/ipv4pools: '["default-ipv4-ippool"]'}}
---
apiVersion: v1
kind: Pod
metadata: {name: sender, namespace: lost}
spec:
  nodeName: worker1
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: receiver, namespace: lost}
spec:
  nodeName: worker2
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, -udp, "7007", ":8080"]}]
`

// lostNode loses worker2 and gets it back: what the other nodes have of it follows its Node object within a second, and nothing is left
// behind. That nothing is heard of it changes nothing.
func lostNode(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	mode := func(mode string) {
		t.Helper()
		kubectl("patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", `{"spec":{"vxlanMode":"`+mode+`"}}`)
	}
	if err := c.Apply(ctx, lostPods); err != nil {
		t.Fatal(err)
	}
	labels := kubectl("get", "node", "worker2", "-o", "jsonpath={.metadata.labels}")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		for _, args := range [][]string{
			{"patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", `{"spec":{"vxlanMode":"Never"}}`},
			{"delete", "namespace", "lost", "--timeout=120s"},
		} {
			if _, err := c.Kubectl(ctx, args...); err != nil {
				t.Error(err)
			}
		}
	})
	kubectl("wait", "-n", "lost", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	receiver := kubectl("get", "pod", "-n", "lost", "receiver", "-o", "jsonpath={.status.podIP}")
	mode("Always")
	eventually(t, "worker1 sends to worker2 through the tunnel", func(ctx context.Context) error { return leads(ctx, c, receiver, "vxlan.manul") })

	// Nothing is heard of the node.
	stream := c.InPod(ctx, "worker1", "sender", "stream", "-udp", "-every", "5ms", "-for", "8s", receiver+":7007")
	var out strings.Builder
	stream.Stdout = &out
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Component(ctx, "stop", "worker2", "kubelet"); err != nil {
		t.Fatal(err)
	}
	kubectl("patch", "node", "worker2", "--subresource=status", "-p", `{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`)
	kubectl("cordon", "worker2")
	if err := stream.Wait(); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Sent int64 `json:"sent"`
		Lost int64 `json:"lost"`
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got.Sent == 0 || got.Lost > 0 {
		t.Errorf("datagrams while the node is not heard of: %s, %v", out.String(), err)
	}

	// It is deleted.
	routes := watchRoutes(t, c)
	kubectl("delete", "node", "worker2", "--wait=false")
	since := time.Now()
	eventually(t, "worker1 has nothing that leads to worker2", func(ctx context.Context) error {
		return knowsNothing(ctx, c, "10.0.0.12")
	})
	routes.within(t, since, "Deleted ", "the routes to a deleted node went")

	// It comes back, with the pods that run on it.
	if err := c.Component(ctx, "start", "worker2", "kubelet"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "worker2 is a node again", func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "get", "node", "worker2")
		return err
	})
	since = time.Now()
	eventually(t, "worker1 sends to worker2 through the tunnel again", func(ctx context.Context) error { return leads(ctx, c, receiver, "vxlan.manul") })
	routes.within(t, since, "", "the routes to a node that came back were there")
	kubectl("patch", "node", "worker2", "--type=merge", "-p", `{"metadata":{"labels":`+labels+`}}`)
	kubectl("wait", "--for=condition=Ready", "node/worker2", "--timeout=120s")
	eventually(t, "the pods talk again", func(ctx context.Context) error {
		out, err := c.InPod(ctx, "worker1", "sender", "stream", "-udp", "-every", "5ms", "-for", "500ms", receiver+":7007").Output()
		if err == nil && !strings.Contains(string(out), `"lost":0,`) {
			err = fmt.Errorf("datagrams: %s", out)
		}
		return err
	})
}

// routeEvents are the changes of worker1's routes to worker2, with the time at which the kernel had them: asking takes longer than they do.
type routeEvents struct {
	mu      sync.Mutex
	watches bool // the first event was seen
	lines   []string
}

func watchRoutes(t *testing.T, c *lab.Cluster) *routeEvents {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := c.Command(ctx, "worker1", "env", "TZ=UTC", "ip", "-ts", "monitor", "route")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	r := &routeEvents{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.mu.Lock()
			r.watches = true
			if strings.Contains(lines.Text(), "via 10.0.0.12 ") {
				r.lines = append(r.lines, lines.Text())
			}
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
	})
	eventually(t, "the kernel's routes are watched", func(ctx context.Context) error {
		for _, change := range []string{"replace", "del"} {
			if _, err := c.On(ctx, "worker1", "ip", "route", change, "blackhole", "192.0.2.77/32"); err != nil {
				return err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.watches {
			return errors.New("no change is seen")
		}
		return nil
	})
	return r
}

// within checks that the last event of a kind, "Deleted " or "" for those that came, was soon after since: sooner than anything that is looked at
// again, and nothing waits for a lease.
func (r *routeEvents) within(t *testing.T, since time.Time, kind, what string) {
	t.Helper()
	const soon = 5 * time.Second
	stamp := ""
	eventually(t, what, func(context.Context) (err error) { // what the kernel told is read a moment later
		stamp, err = r.last(kind)
		return err
	})
	at, err := time.Parse("2006-01-02T15:04:05.000000", stamp)
	if took := at.Sub(since); err != nil || took > soon {
		t.Errorf("%s after %v (%v), want less than %v", what, took, err, soon)
	} else {
		t.Logf("%s after %v", what, max(took, 0))
	}
}

// last is when the last event of a kind was.
func (r *routeEvents) last(kind string) (stamp string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range slices.Backward(r.lines) {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		if strings.HasPrefix(rest, "Deleted ") == (kind != "") {
			return stamp, nil
		}
	}
	return "", fmt.Errorf("no such event among %q", r.lines)
}

// leads tells whether worker1 sends to an address by a device.
func leads(ctx context.Context, c *lab.Cluster, to, device string) error {
	out, err := c.On(ctx, "worker1", "ip", "route", "get", to)
	if err == nil && !strings.Contains(out, "dev "+device+" ") {
		err = fmt.Errorf("worker1's route to %s: %s", to, out)
	}
	return err
}

// knowsNothing tells whether worker1 has neither routes nor neighbours nor forwarding entries of a node in its tunnel.
func knowsNothing(ctx context.Context, c *lab.Cluster, node string) error {
	out, err := c.On(ctx, "worker1", "sh", "-c", "ip route; ip neighbour show dev vxlan.manul; bridge fdb show dev vxlan.manul")
	if err == nil && strings.Contains(out, node+" ") {
		err = fmt.Errorf("worker1 has: %s", out)
	}
	return err
}
