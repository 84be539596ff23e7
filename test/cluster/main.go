// Command cluster runs a real Kubernetes cluster on this machine, each host a network namespace with a process tree of its
// own: for the demo and the end-to-end tests. README.md has the manual.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/test/cluster/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	// A command run for the user has said itself what went wrong.
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "cluster:", err)
	os.Exit(1)
}

func rootCommand() *cobra.Command {
	o := cluster.Options{Say: sayer()}
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A real Kubernetes cluster in network namespaces of this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.Name, "name", "default", "name of the cluster")
	root.AddCommand(
		buildCommand(&o), upCommand(&o), downCommand(&o), listCommand(&o),
		kubectlCommand(&o), execCommand(&o), kubeconfigCommand(&o), envCommand(&o), loadCommand(&o),
		componentCommand(&o, "stop", "Stop a component; it stays down until `start`", (*cluster.Cluster).Stop),
		componentCommand(&o, "start", "Start a component that was stopped", (*cluster.Cluster).Start),
		componentCommand(&o, "kill", "Kill a component as a crash would; it starts again by itself", (*cluster.Cluster).Kill),
		logsCommand(&o), statusCommand(&o), nodeInitCommand(),
	)
	return root
}

// sayer prints each step with the time since the start.
func sayer() func(format string, args ...any) {
	start := time.Now()
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}
