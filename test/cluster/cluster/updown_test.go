package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/manul-net/manul/test/cluster/binaries"
	"github.com/manul-net/manul/test/cluster/cluster"
)

// name of the clusters that these tests make; what is compared before and after is found by it.
const name = "updown"

// webManifest is a server on every worker and a service in front of them.
const webManifest = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: web, image: "` + cluster.AgnhostImage + `", args: [netexec, --http-port=8080]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

func options(t *testing.T) cluster.Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: a cluster needs network namespaces and mounts")
	}
	return cluster.Options{Name: name, CNI: cluster.PTP, Say: func(format string, args ...any) { t.Logf(format, args...) }}
}

// TestUpDown is the life of a cluster: pods on two workers that reach each other, a crash of a whole host, and an end that
// leaves nothing.
func TestUpDown(t *testing.T) {
	o := options(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	before := traces(t)
	t.Cleanup(func() {
		if err := cluster.Down(context.WithoutCancel(t.Context()), o); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, traces(t)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
	})
	c, err := cluster.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("pods reach each other", func(t *testing.T) { podsReachEachOther(ctx, t, c) })
	t.Run("Go clients connect", func(t *testing.T) { goClientsConnect(ctx, t, c) })
	t.Run("second up is quick", func(t *testing.T) {
		start := time.Now()
		if _, err := cluster.Up(ctx, o); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		if _, err := c.Kubectl(ctx, "get", "daemonset", "web"); err != nil {
			t.Errorf("the second up lost what was there: %v", err)
		}
	})
	t.Run("other options are refused", func(t *testing.T) {
		other := o
		other.Workers = 1
		if _, err := cluster.Up(ctx, other); err == nil || !strings.Contains(err.Error(), "take it down first") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a killed component starts again", func(t *testing.T) {
		if err := c.Kill(ctx, "worker1", cluster.Kubelet); err != nil {
			t.Fatal(err)
		}
		wait(ctx, t, "the kubelet to start again", func() error {
			for _, h := range c.Status(ctx) {
				for _, s := range h.Components {
					if h.Name == "worker1" && s.Name == cluster.Kubelet && s.State == "running" && s.Restarts == 1 {
						return nil
					}
				}
			}
			return errors.New("not running")
		})
	})
	t.Run("up after a host died", func(t *testing.T) {
		status := c.Status(ctx)
		i := slices.IndexFunc(status, func(h cluster.HostStatus) bool { return h.Name == "worker1" })
		if out, err := exec.CommandContext(ctx, "kill", "-9", fmt.Sprint(status[i].PID)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		wait(ctx, t, "worker1 to be down", func() error {
			if c.Status(ctx)[i].Err == nil {
				return errors.New("still up")
			}
			return nil
		})
		if c, err = cluster.Up(ctx, o); err != nil {
			t.Fatal(err)
		}
		podsReachEachOther(ctx, t, c)
	})
}

// TestUpAfterInterruptedUp kills a run half way: what it made is found and removed.
func TestUpAfterInterruptedUp(t *testing.T) {
	o := options(t)
	o.CNI = cluster.NoCNI
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := cluster.Build(ctx, o); err != nil {
		t.Fatal(err)
	}
	before := traces(t)
	t.Cleanup(func() {
		if err := cluster.Down(context.WithoutCancel(t.Context()), o); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, traces(t)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
	})
	program := filepath.Join(t.TempDir(), "cluster")
	dir, err := binaries.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	// Three places to be cut off at: namespaces being made, hosts being started, images being loaded.
	for _, sign := range []string{"/run/netns/manul-updown-worker1", "hosts/worker1/process.json", "hosts/worker2/control.sock"} {
		if !filepath.IsAbs(sign) {
			cache, err := o.WithDefaults()
			if err != nil {
				t.Fatal(err)
			}
			sign = filepath.Join(cache.Cache, "clusters", name, sign)
		}
		cmd := exec.CommandContext(ctx, program, "up", "--name", name)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(ctx, t, sign, func() error {
			_, err := os.Stat(sign)
			return err
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if err := cluster.Down(ctx, o); err != nil {
			t.Fatalf("down after a run was cut off at %s: %v", sign, err)
		}
		if diff := cmp.Diff(before, traces(t)); diff != "" {
			t.Fatalf("left behind by a run that was cut off at %s (-before +after):\n%s", sign, diff)
		}
	}
	c, err := cluster.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Kubectl(ctx, "get", "nodes", "--no-headers")
	if err != nil || strings.Count(out, "NotReady") != 3 {
		t.Errorf("without a pod network, three nodes are NotReady; got %v\n%s", err, out)
	}
}

func podsReachEachOther(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if _, err := c.KubectlInput(ctx, webManifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"daemonset/web"}, {"-n", "kube-system", "deployment/coredns"}} {
		if _, err := c.Kubectl(ctx, append([]string{"rollout", "status", "--timeout=120s"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	var pods map[string]string // address to pod
	// Of a node that has just come back the API may still have old addresses: they are asked for again each time.
	wait(ctx, t, "a pod on each worker, and each to reach each", func() error {
		out, err := c.Kubectl(ctx, "get", "pods", "-l", "app=web", "-o",
			`jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIP}{"\n"}{end}`)
		if err != nil {
			return err
		}
		pods = map[string]string{}
		nodes := map[string]bool{}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if len(f) != 3 {
				return fmt.Errorf("pod without an address: %s", line)
			}
			nodes[f[0]], pods[f[2]] = true, f[1]
		}
		if !nodes["worker1"] || !nodes["worker2"] {
			return fmt.Errorf("pods on %v", nodes)
		}
		return eachReachesEach(ctx, c, pods)
	})
	for _, from := range pods {
		service, err := c.Kubectl(ctx, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{service, "web.default.svc.cluster.local", "web"} {
			wait(ctx, t, from+" to reach the service as "+to, func() error {
				_, err := c.Kubectl(ctx, "exec", from, "--", "curl", "-sS", "-m", "5", "http://"+to+"/hostname")
				return err
			})
		}
	}
}

// eachReachesEach tells which pod, out of those by address, does not get an answer from which.
func eachReachesEach(ctx context.Context, c *cluster.Cluster, pods map[string]string) error {
	for _, from := range pods {
		for address, pod := range pods {
			got, err := c.Kubectl(ctx, "exec", from, "--", "curl", "-sS", "-m", "5", "http://"+address+":8080/hostname")
			if err == nil && got != pod {
				err = fmt.Errorf("%s answered", got)
			}
			if err != nil {
				return fmt.Errorf("%s asks %s: %w", from, pod, err)
			}
		}
	}
	return nil
}

func goClientsConnect(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	config, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 3 {
		t.Errorf("%d nodes, want 3", len(nodes.Items))
	}
}

// wait tries until try returns nil, for two minutes at most.
func wait(ctx context.Context, t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// traces lists all that a cluster of these tests has on the machine: namespaces, mounts, cgroups, processes.
func traces(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/netns/manul-" + name + "-*", "/sys/fs/cgroup/manul/" + name, "/sys/fs/cgroup/*/manul/" + name} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "manul-"+name) || strings.Contains(line, "clusters/"+name) {
			found = append(found, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		// Every process of a host runs from the cluster's folder, names it, or has a name of containers' own making.
		args, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(args), "clusters/"+name+"/") {
			found = append(found, "process "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}
