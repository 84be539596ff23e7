// Package lab drives the local cluster of test/cluster by its command line, as a user does, for the walk-through, the
// failure tests and the benchmarks.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Cluster is a local cluster and where its tools are.
type Cluster struct {
	// Project is the folder of the project.
	Project string
	// Name of the cluster; clusters of different names do not meet.
	Name string
	// Log gets what the cluster's command says while it works.
	Log io.Writer
}

// Options of a cluster.
type Options struct {
	Workers int
	// Proxy is kube-proxy's mode: nftables or iptables.
	Proxy string
	// CNI is "none", to be installed by the user, or "ptp", the reference to compare with.
	CNI string
	// Images are OCI archives to import on every node.
	Images []string
}

// Images are the archives that "make image" made.
func Images(project string) ([]string, error) {
	images, err := filepath.Glob(filepath.Join(project, "out", "images", "*.tar"))
	if err != nil {
		return nil, fmt.Errorf("looking for images: %w", err)
	}
	if len(images) == 0 {
		return nil, errors.New("no images in out/images: run make image")
	}
	return images, nil
}

// Up brings the cluster up.
func (c *Cluster) Up(ctx context.Context, o Options) error {
	args := []string{"up", "--name", c.Name, "--workers", fmt.Sprint(o.Workers), "--proxy", o.Proxy, "--cni", o.CNI}
	for _, image := range o.Images {
		args = append(args, "--load", image)
	}
	return c.loud(ctx, args...)
}

// Down removes the cluster and all that belongs to it.
func (c *Cluster) Down(ctx context.Context) error { return c.loud(ctx, "down", "--name", c.Name) }

// Component starts, stops or kills a component of a host: "start", "stop" or "kill" of apiserver, kubelet and so on.
func (c *Cluster) Component(ctx context.Context, action, host, component string) error {
	return c.loud(ctx, action, "--name", c.Name, host, component)
}

// Kubectl runs kubectl as cluster administrator and returns what it prints; warnings are left out.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.quiet(ctx, "", append([]string{"kubectl", "--name", c.Name, "--"}, args...)...)
}

// KubectlInput is Kubectl with standard input.
func (c *Cluster) KubectlInput(ctx context.Context, input string, args ...string) (string, error) {
	return c.quiet(ctx, input, append([]string{"kubectl", "--name", c.Name, "--"}, args...)...)
}

// Apply applies manifests given as text.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.KubectlInput(ctx, manifests, "apply", "-f", "-")
	return err
}

// On runs a command on a host and returns what it prints.
func (c *Cluster) On(ctx context.Context, host string, args ...string) (string, error) {
	return c.quiet(ctx, "", append([]string{"exec", "--name", c.Name, host, "--"}, args...)...)
}

// Command is a command on a host, for a caller that wants to start it and go on.
func (c *Cluster) Command(ctx context.Context, host string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.bin(), append([]string{"exec", "--name", c.Name, host, "--"}, args...)...)
}

// Eventually tries until condition returns nil or the time is up, and then returns its last error.
func Eventually(ctx context.Context, within time.Duration, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// Shims makes the commands kubectl (with manul as its plugin), on and cluster for this cluster and returns the folder in which they are.
func (c *Cluster) Shims() (string, error) {
	dir := filepath.Join(c.Project, "out", "bin")
	if c.Name != "demo" {
		dir = filepath.Join(c.Project, "out", "bin-"+c.Name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making shims: %w", err)
	}
	shims := map[string]string{
		"kubectl": fmt.Sprintf("#!/bin/sh\n# kubectl for the local cluster %q\nexec %q kubectl --name %q -- \"$@\"\n", c.Name, c.bin(), c.Name),
		"cluster": fmt.Sprintf("#!/bin/sh\n# cluster start|stop|kill HOST COMPONENT, and others, for the local cluster %q\ncommand=$1; shift\nexec %q \"$command\" --name %q \"$@\"\n", c.Name, c.bin(), c.Name),
		// What kubectl finds as its plugin.
		"kubectl-manul": fmt.Sprintf("#!/bin/sh\nexec %q \"$@\"\n", filepath.Join(c.Project, "bin", "kubectl-manul")),
		"on":            fmt.Sprintf("#!/bin/sh\n# on HOST COMMAND...: run a command on a host of the local cluster %q\nhost=$1; shift\nexec %q exec --name %q \"$host\" -- \"$@\"\n", c.Name, c.bin(), c.Name),
	}
	for name, text := range shims {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return "", fmt.Errorf("making shims: %w", err)
		}
	}
	return dir, nil
}

func (c *Cluster) bin() string { return filepath.Join(c.Project, "out", "cluster") }

func (c *Cluster) loud(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.bin(), args...)
	cmd.Stdout, cmd.Stderr = c.Log, c.Log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cluster %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (c *Cluster) quiet(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.bin(), args...)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Kubeconfig is the path of the administrator's kubeconfig, good on the cluster's hosts.
func (c *Cluster) Kubeconfig(ctx context.Context) (string, error) {
	out, err := c.quiet(ctx, "", "kubeconfig", "--name", c.Name)
	return strings.TrimSpace(out), err
}

// InPod is a command that runs the prober in a pod of a host. It does not need the API server.
func (c *Cluster) InPod(ctx context.Context, host, pod string, args ...string) *exec.Cmd {
	const script = `id=$(ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.pod.name\"==$0,labels.\"io.kubernetes.container.name\"==prober" | tail -n 1)
exec ctr -n k8s.io tasks exec --exec-id "probe-$$" "$id" /prober "$@"`
	return c.Command(ctx, host, append([]string{"sh", "-c", script, pod}, args...)...)
}

// InNetwork is a command that runs a program of the machine in the network of a prober's pod: its packets are the pod's, while priority and processor
// time are the caller's affair, not the pod's. It does not need the API server.
func (c *Cluster) InNetwork(ctx context.Context, host, pod, program string, args ...string) *exec.Cmd {
	const script = `id=$(ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.pod.name\"==$0,labels.\"io.kubernetes.container.name\"==prober" | tail -n 1)
exec nsenter --net --target "$(ctr -n k8s.io tasks ls | awk -v id="$id" '$1 == id { print $2 }')" "$@"`
	return c.Command(ctx, host, append([]string{"sh", "-c", script, pod, program}, args...)...)
}
