package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command prepares a command that runs on a host: in its network, mount, process and UTS namespaces, in the folder /. The
// caller sets input and output and runs it.
func (c *Cluster) Command(ctx context.Context, host string, args ...string) (*exec.Cmd, error) {
	p, err := c.process(host)
	if err != nil {
		return nil, fmt.Errorf("running %s on %s: %w", strings.Join(args, " "), host, err)
	}
	return command(ctx, append([]string{
		"--target", strconv.Itoa(p.PID), "--mount", "--net", "--pid", "--uts", "--wdns=/", "--",
		// nsenter stays as the parent of a process in another process namespace; the child ends with it.
		"setpriv", "--pdeathsig", "KILL", "--",
	}, args...)), nil
}

// Exec runs a command on a host and returns what it prints on standard output. An error holds what it printed on the other.
func (c *Cluster) Exec(ctx context.Context, host string, args ...string) (string, error) {
	cmd, err := c.Command(ctx, host, args...)
	if err != nil {
		return "", err
	}
	return output(cmd, host+": "+strings.Join(args, " "))
}

// KubectlCommand prepares kubectl as administrator. It runs in the machine's mount namespace, so that it finds files by their
// usual paths, and in the network namespace of master1. The caller sets input and output and runs it.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	p, err := c.process(c.Hosts()[0].Name)
	if err != nil {
		return nil, fmt.Errorf("running kubectl: %w", err)
	}
	cmd := command(ctx, append([]string{"--net=/proc/" + strconv.Itoa(p.PID) + "/ns/net", "--", c.kubectl}, args...))
	// Not as a flag, before which kubectl takes no plugin's name.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return cmd, nil
}

func command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.WaitDelay = 5 * time.Second
	// A command that outlived its caller would hold the cluster's namespaces.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Kubectl runs kubectl as administrator and returns what it prints on standard output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.KubectlInput(ctx, "", args...)
}

// KubectlInput is Kubectl with standard input, for `apply -f -`.
func (c *Cluster) KubectlInput(ctx context.Context, input string, args ...string) (string, error) {
	cmd, err := c.KubectlCommand(ctx, args...)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(input)
	return output(cmd, "kubectl "+strings.Join(args, " "))
}

func output(cmd *exec.Cmd, what string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", what, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// NamespacePath is the file of a host's network namespace, for `nsenter --net=` and setns.
func (c *Cluster) NamespacePath(host string) string {
	return filepath.Join(namespaceDir, c.paths.namespace(host))
}
