// Command bench prints the figures of docs/performance.md, measured on a local cluster: how long a policy takes to reach packets,
// how long pods take to start (and with the reference plugin ptp), the plugin's ADD and DEL, the agent's memory and its restart, how
// long a service's route takes to a router, and the writes to the API that a pod costs.
//
// When packets see a change is known by connections that a thread of real-time priority makes, at every -every, from the client's network. A change that
// was seen is known to that and no better; "the client did not try" is the time since the connection before. Who makes the changes has that priority too.
// -realtime=false lets both wait for a processor as others do, to compare.
//
// "Waited for a processor" is what the kernel's scheduler tells (tracefs) of threads of the API server, the operator and the agents between the API server's
// answer and the connection that saw the change: for how long at least one of them could have run and had no processor. Whether the change needed that
// one nobody knows, so it is the most that such waiting can have cost; a program's own row says the same of its threads alone, and rows overlap.
//
// -standing measures on a cluster that is there already, with what is installed on it, and leaves it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

func main() {
	project := flag.String("project", ".", "the project's folder")
	name := flag.String("name", "bench", "the cluster's name")
	n := flag.Int("n", 100, "how many changes, pods and calls are measured")
	parts := flag.String("parts", "changes,memory,restart,pods,reference,load,members,routes,cni", "what is measured")
	policies := flag.String("policies", "1000,5000,10000", "how many policies load makes, in turn")
	every := flag.Duration("every", 500*time.Microsecond, "time between two connections by which changes are seen")
	realtime := flag.Bool("realtime", true, "whoever makes them has real-time priority")
	stands := flag.Bool("standing", false, "the cluster is there, has Manul, and is left as it is")
	flag.Parse()
	var sizes []int
	for text := range strings.SplitSeq(*policies, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size <= 0 {
			fmt.Fprintf(os.Stderr, "bench: -policies: %q is no number of policies: write numbers above 0 with commas between them\n", text)
			os.Exit(2)
		}
		sizes = append(sizes, size)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	b := &bench{
		Cluster: &lab.Cluster{Project: *project, Name: *name, Log: os.Stderr}, n: *n, parts: strings.Split(*parts, ","), sizes: sizes,
		every: *every, realtime: *realtime, standing: *stands,
	}
	err := b.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a cluster that is measured.
type bench struct {
	*lab.Cluster
	images []string
	// program and prober are test/bench and test/prober, built for this machine, in the folder programs.
	program, prober, programs string
	n                         int
	parts                     []string
	// sizes are how many policies there are in turn, for load.
	sizes []int
	// every is the time between two connections by which changes are seen; realtime is the priority of whoever makes them.
	every    time.Duration
	realtime bool
	standing bool
}

func (b *bench) has(part string) bool { return slices.Contains(b.parts, part) }

func (b *bench) run(ctx context.Context) (err error) {
	if b.Project, err = filepath.Abs(b.Project); err != nil {
		return fmt.Errorf("finding the project: %w", err)
	}
	if b.images, err = lab.Images(b.Project); err != nil {
		return err
	}
	// A folder of their own: hosts of a cluster that stands may go on seeing a file that was there as it was.
	if b.programs, err = os.MkdirTemp(filepath.Join(b.Project, "out"), "bench-"); err != nil {
		return fmt.Errorf("making a folder for programs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.programs)) }()
	if b.program, err = b.build(ctx, "bench"); err != nil {
		return err
	}
	if b.prober, err = b.build(ctx, "prober"); err != nil {
		return err
	}
	figures := &table{out: os.Stdout}
	return b.on(ctx, "none", func() error { return b.measure(ctx, figures) })
}

// build builds a program of the folder test.
func (b *bench) build(ctx context.Context, name string) (string, error) {
	program := filepath.Join(b.programs, name)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./test/"+name)
	build.Dir, build.Stderr = b.Project, os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building test/%s: %w", name, err)
	}
	return program, nil
}

// on brings the cluster up, measures and removes it.
func (b *bench) on(ctx context.Context, cni string, measure func() error) (err error) {
	if b.standing {
		return b.set(ctx, measure)
	}
	if err := b.Down(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Down(context.WithoutCancel(ctx))) }()
	if err := b.Up(ctx, lab.Options{Workers: 2, Proxy: "nftables", CNI: cni, Images: b.images}); err != nil {
		return err
	}
	if cni == "none" {
		if _, err := b.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(b.Project, "config", "install.yaml")); err != nil {
			return err
		}
		// Policies are refused until the operator can say whether they are right.
		if _, err := b.Kubectl(ctx, "rollout", "status", "-n", "manul-system", "deployment/manul-operator", "--timeout=120s"); err != nil {
			return err
		}
	}
	if _, err := b.Kubectl(ctx, "wait", "--for=condition=Ready", "node", "--all", "--timeout=240s"); err != nil {
		return err
	}
	return b.set(ctx, measure)
}

// set makes client and server, and measures.
func (b *bench) set(ctx context.Context, measure func() error) error {
	if err := b.Apply(ctx, setting); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "wait", "-n", "bench", "--for=condition=Ready", "pod", "--all", "--timeout=120s"); err != nil {
		return err
	}
	return measure()
}

// setting is a server on worker1 and a client on worker2.
const setting = `
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: bench, labels: {role: server}}
spec:
  nodeName: worker1
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, -knocks, ":8080"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: bench, labels: {role: client}}
spec:
  nodeName: worker2
  terminationGracePeriodSeconds: 1
  containers: [{name: prober, image: "ghcr.io/manul-net/prober:v0.1.0", args: [serve, ":8080"]}]
`

// guard lets those in who bear a label.
const guard = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: guard, namespace: bench}
spec:
  order: 1
  selector: role == "server"
  types: [Ingress]
  ingress:
  - {action: Allow, source: {selector: 'friend == "yes"'}}
  - {action: Deny, source: {selector: 'role == "client"'}}
`

// standing uses the labels that the measured policies use, as policies of a lived-in cluster do.
const standing = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: standing, namespace: bench}
spec: {order: 2, selector: role == "nobody", types: [Ingress], ingress: [{action: Allow, source: {selector: role == "client"}}]}
`

func (b *bench) measure(ctx context.Context, t *table) error {
	for _, part := range []struct {
		name string
		run  func(context.Context, *table) error
	}{
		{"changes", b.policies},
		{"memory", b.memory},
		{"restart", func(ctx context.Context, t *table) error { return b.restart(ctx, t, "", restarts) }},
		{"pods", b.podsAndWrites},
		{"reference", b.reference},
		{"load", b.loads},
		{"members", b.members},
		{"routes", b.routes},
		{"cni", b.cni},
	} {
		if !b.has(part.name) {
			continue
		}
		if err := part.run(ctx, t); err != nil {
			return err
		}
	}
	info, err := os.Stat(filepath.Join(b.Project, "bin", "manul"))
	if err != nil {
		return fmt.Errorf("looking at the plugin: %w", err)
	}
	t.value("size of the CNI plugin", float64(info.Size())/(1<<20), "MiB")
	return nil
}

// policies measures how soon changes of policies and labels reach packets.
func (b *bench) policies(ctx context.Context, t *table) error {
	if err := b.changes(ctx, t, "policies", "policy over a label that no policy used before: created -> first connection refused",
		"the same, deleted -> first connection accepted"); err != nil {
		return err
	}
	return b.inUse(ctx, t, "")
}

// inUse measures changes over labels that policies use already, with what is loaded besides.
func (b *bench) inUse(ctx context.Context, t *table, with string) error {
	if err := b.apply(ctx, "standing", standing); err != nil {
		return err
	}
	if err := b.staged(ctx, t, func() error {
		return b.changes(ctx, t, "policies", with+"policy over labels in use: created -> first connection refused", with+"the same, deleted -> first connection accepted")
	}); err != nil {
		return err
	}
	if err := b.apply(ctx, "guard", guard); err != nil {
		return err
	}
	if err := b.staged(ctx, t, func() error {
		return b.changes(ctx, t, "labels", with+"peer loses a label -> first connection refused", with+"peer gains a label -> first connection accepted")
	}); err != nil {
		return err
	}
	_, err := b.Kubectl(ctx, "delete", "-n", "bench", "networkpolicies.projectcalico.org", "guard", "standing")
	return err
}

// apply writes a policy and waits until it is in force.
func (b *bench) apply(ctx context.Context, name, manifest string) error {
	if err := b.Apply(ctx, manifest); err != nil {
		return err
	}
	_, err := b.Kubectl(ctx, "wait", "-n", "bench", "--for=condition=Enforced", "networkpolicies.projectcalico.org/"+name, "--timeout=60s")
	return err
}

// inside runs test/bench on the control plane's host.
func (b *bench) inside(ctx context.Context, host string, args ...string) (string, error) {
	kubeconfig, err := b.Kubeconfig(ctx)
	if err != nil {
		return "", err
	}
	command := append([]string{b.program, args[0], "-kubeconfig", kubeconfig, "-n", fmt.Sprint(b.n)}, args[1:]...) // the last -n counts
	if b.realtime && slices.Contains([]string{"policies", "labels"}, args[0]) {
		// Who makes these changes looks at the clock when the answer is there, not when there is a processor, by which figures would be too small.
		command = append([]string{"chrt", "--fifo", "1"}, command...)
	}
	return b.On(ctx, host, command...)
}

func (b *bench) cni(ctx context.Context, t *table) error {
	if err := b.Component(ctx, "stop", "worker1", "kubelet"); err != nil {
		return err
	}
	out, err := b.inside(ctx, "worker1", "cni")
	if err != nil {
		return err
	}
	took, err := lengths(out)
	if err != nil {
		return err
	}
	t.row("CNI ADD, the plugin's start as a process included", took["ADD"])
	t.row("CNI DEL, likewise", took["DEL"])
	return b.Component(ctx, "start", "worker1", "kubelet")
}

// writes counts the API server's successful writes of rendered objects.
func (b *bench) writes(ctx context.Context) (int, error) {
	out, err := b.Kubectl(ctx, "get", "--raw", "/metrics")
	if err != nil {
		return 0, err
	}
	total := 0.0
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `group="manul.dev"`) {
			continue
		}
		if strings.Contains(line, `verb="GET"`) || strings.Contains(line, `verb="LIST"`) || strings.Contains(line, `verb="WATCH"`) || !strings.Contains(line, `code="20`) {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
			return 0, fmt.Errorf("reading %q: %w", line, err)
		}
		total += n
	}
	return int(total), nil
}
