package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

const (
	pods = `
apiVersion: v1
kind: Namespace
metadata: {name: failures}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: failures, labels: {role: server}}
spec:
  nodeName: worker1
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: friend, namespace: failures, labels: {role: friend}}
spec:
  nodeName: worker2
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: failures, labels: {role: stranger}}
spec:
  nodeName: worker2
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: egress, namespace: failures}
spec: {order: 1, types: [Egress], egress: [{action: Allow}]}
`
	// guard lets those in whose role it names.
	guard = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: guard, namespace: failures}
spec:
  order: 1
  selector: role == "server"
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {selector: 'role in {%s}'}
    destination: {ports: [8080]}
`
)

// failure is a part that dies while pods exchange traffic.
type failure struct {
	name string
	// kill ends the part; back, if any, brings it back. What comes back by itself has no back.
	kill, back func(context.Context, *lab.Cluster) error
	// control tells whether the API can be written to while the part is away.
	control bool
}

func kinds() []failure {
	agents := func(ctx context.Context, c *lab.Cluster) error {
		for _, host := range []string{"worker1", "worker2"} {
			if _, err := c.On(ctx, host, "pkill", "-KILL", "-x", "manul-node"); err != nil {
				return err
			}
		}
		return nil
	}
	operator := func(ctx context.Context, c *lab.Cluster) error {
		out, err := c.Kubectl(ctx, "delete", "pod", "-n", "manul-system", "-l", "app.kubernetes.io/name=manul-operator", "--force", "--grace-period=0")
		if err == nil && !strings.Contains(out, "deleted") {
			return fmt.Errorf("no operator to delete: %s", out)
		}
		return err
	}
	return []failure{
		{name: "the agents of both nodes", kill: agents, control: true},
		{name: "the operator", kill: operator, control: true},
		{
			name: "the API server",
			kill: func(ctx context.Context, c *lab.Cluster) error {
				return c.Component(ctx, "stop", "master1", "apiserver")
			},
			back: func(ctx context.Context, c *lab.Cluster) error {
				return c.Component(ctx, "start", "master1", "apiserver")
			},
		},
		{
			name: "the API server, and then the agents",
			kill: func(ctx context.Context, c *lab.Cluster) error {
				if err := c.Component(ctx, "stop", "master1", "apiserver"); err != nil {
					return err
				}
				return agents(ctx, c)
			},
			back: func(ctx context.Context, c *lab.Cluster) error {
				return c.Component(ctx, "start", "master1", "apiserver")
			},
		},
	}
}

// failures kills each part while a friend talks to a server and a stranger tries to, and while the server's policy changes.
func failures(t *testing.T, c *lab.Cluster, list []failure) {
	ctx := t.Context()
	// The default deny of the walk-through would hide what this test is about no longer than its own policies decide.
	if err := c.Apply(ctx, pods); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Kubectl(context.WithoutCancel(ctx), "delete", "namespace", "failures", "--timeout=120s"); err != nil {
			t.Error(err)
		}
	})
	allow(t, c, `"friend"`)
	if _, err := c.Kubectl(ctx, "wait", "-n", "failures", "--for=condition=Ready", "pod", "--all", "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	server := address(t, c, "server") + ":8080"
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) { survive(t, c, f, server) })
	}
}

// survive checks one failure: a lasting connection goes on, the stranger never gets in, and a change of policy made
// meanwhile (or right after, where nothing can be written meanwhile) comes into force.
func survive(t *testing.T, c *lab.Cluster, f failure, server string) {
	ctx := t.Context()
	allow(t, c, `"friend"`)
	const length = 20 * time.Second
	friend := start(t, c, "friend", "stream", "-every", "5ms", "-timeout", "5s", "-for", length.String(), server)
	stranger := start(t, c, "stranger", "probe", "-every", "5ms", "-for", length.String(), server)
	if err := f.kill(ctx, c); err != nil {
		t.Fatal(err)
	}
	if f.control {
		// Friends of any other name are let in, too; the stranger is still none.
		allow(t, c, `"friend", "guest"`)
	}
	var stream struct {
		Echoes     int    `json:"echoes"`
		LongestGap int64  `json:"longestGap"`
		Problem    string `json:"problem"`
	}
	if err := json.Unmarshal(friend.wait(t), &stream); err != nil {
		t.Fatalf("reading the stream's result: %v", err)
	}
	if stream.Problem != "" || stream.Echoes == 0 {
		t.Errorf("the lasting connection: %d echoes, %s", stream.Echoes, stream.Problem)
	}
	tried, gotIn, err := attempts(stranger.wait(t))
	if err != nil {
		t.Fatal(err)
	}
	if gotIn > 0 || tried == 0 {
		t.Errorf("the stranger got in %d times out of %d", gotIn, tried)
	}
	t.Logf("%d echoes, longest gap %s; the stranger was refused %d times", stream.Echoes, time.Duration(stream.LongestGap), tried)
	if f.back != nil {
		if err := f.back(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	// All converges: the stranger is let in now, and then no more.
	allow(t, c, `"stranger"`)
	eventually(t, "the stranger is let in by the new policy", func(ctx context.Context) error { return once(ctx, c, "stranger", server, true) })
	allow(t, c, `"friend"`)
	eventually(t, "the stranger is kept out again", func(ctx context.Context) error { return once(ctx, c, "stranger", server, false) })
	if err := once(ctx, c, "friend", server, true); err != nil {
		t.Error(err)
	}
}

// allow writes the guard and waits until it is in force.
func allow(t *testing.T, c *lab.Cluster, roles string) {
	t.Helper()
	eventually(t, "the API takes the policy", func(ctx context.Context) error { return c.Apply(ctx, fmt.Sprintf(guard, roles)) })
	eventually(t, "the policy is in force", func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "get", "networkpolicies.projectcalico.org", "-n", "failures", "guard", "-o",
			`jsonpath={.metadata.generation} {.status.conditions[?(@.type=="Enforced")].observedGeneration} {.status.conditions[?(@.type=="Enforced")].status}`)
		if err != nil {
			return err
		}
		if f := strings.Fields(out); len(f) != 3 || f[0] != f[1] || f[2] != "True" {
			return fmt.Errorf("generation, observed generation, Enforced: %s", out)
		}
		return nil
	})
}

func eventually(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := lab.Eventually(t.Context(), 2*time.Minute, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func address(t *testing.T, c *lab.Cluster, pod string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), "get", "pod", "-n", "failures", pod, "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// running is a prober that runs in a pod's network.
type running struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// start runs the prober in a pod of worker2, not through the API server, which may be away.
func start(t *testing.T, c *lab.Cluster, pod string, args ...string) *running {
	t.Helper()
	r := &running{cmd: c.InPod(context.WithoutCancel(t.Context()), "worker2", pod, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) wait(t *testing.T) []byte {
	t.Helper()
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("prober: %v: %s", err, r.stderr.String())
	}
	return r.stdout.Bytes()
}

// attempts counts the lines of "prober probe".
func attempts(out []byte) (tried, ok int, err error) {
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var a struct {
			OK bool `json:"ok"`
		}
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return 0, 0, fmt.Errorf("reading an attempt: %w", err)
		}
		tried++
		if a.OK {
			ok++
		}
	}
	return tried, ok, nil
}

// once probes for a moment and compares all outcomes with what is wanted.
func once(ctx context.Context, c *lab.Cluster, pod, server string, want bool) error {
	out, err := c.InPod(ctx, "worker2", pod, "probe", "-every", "20ms", "-for", "200ms", server).Output()
	if err != nil {
		return fmt.Errorf("running the prober: %w", err)
	}
	tried, ok, err := attempts(out)
	switch {
	case err != nil:
		return err
	case tried == 0:
		return errors.New("no attempt")
	case want && ok != tried, !want && ok != 0:
		return fmt.Errorf("%d of %d attempts came through", ok, tried)
	}
	return nil
}
