package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/test/cluster/cluster"
)

func listCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clusters of this cache that are up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := cluster.Names(*o)
			if err != nil {
				return err
			}
			for _, name := range names {
				one := *o
				one.Name = name
				if _, err := cluster.Open(one); errors.Is(err, cluster.ErrNotUp) {
					continue
				} else if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func kubectlCommand(o *cluster.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kubectl [--] ARGS...",
		Short: "Run kubectl as administrator",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			kubectl, err := c.KubectlCommand(cmd.Context(), args...)
			if err != nil {
				return err
			}
			return attach(kubectl)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the first word is kubectl's
	return cmd
}

func execCommand(o *cluster.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec HOST [--] COMMAND [ARGS...]",
		Short: "Run a command on a host (master1, worker1, ..., host1)",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			host, args := args[0], args[1:]
			if args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 {
				return errors.New("exec: no command given")
			}
			command, err := c.Command(cmd.Context(), host, args...)
			if err != nil {
				return err
			}
			return attach(command)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func attach(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

func kubeconfigCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig (the API server answers inside the cluster's namespaces only)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), c.Kubeconfig())
			return err
		},
	}
}

func envCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print shell settings with which `kubectl` means this cluster, for eval",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%q\nkubectl() { nsenter --net=%q -- %q \"$@\"; }\n",
				c.Kubeconfig(), c.NamespacePath(c.Hosts()[0].Name), c.KubectlPath())
			return err
		},
	}
}

func loadCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "load IMAGE.tar...",
		Short: "Import image archives on every node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			return c.Load(cmd.Context(), args...)
		},
	}
}

func componentCommand(
	o *cluster.Options, verb, short string, do func(c *cluster.Cluster, ctx context.Context, host, component string) error,
) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " HOST COMPONENT",
		Short: short,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			return do(c, cmd.Context(), args[0], args[1])
		},
	}
}

func logsCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "logs HOST COMPONENT",
		Short: "Print the log of a component (or of `init`), also after `down`",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			path, err := cluster.LogFile(*o, args[0], args[1])
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("reading the log of %s on %s: %w", args[1], args[0], err)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			_, err = io.Copy(cmd.OutOrStdout(), f)
			return err
		},
	}
}

func statusCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show hosts and components",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(*o)
			if err != nil {
				return err
			}
			// The writer keeps the first error for Flush.
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "HOST\tADDRESS\tPID\tCOMPONENT\tSTATE\tSINCE\tRESTARTS\tLAST EXIT")
			var down []error
			for _, h := range c.Status(cmd.Context()) {
				if h.Err != nil {
					down = append(down, h.Err)
					_, _ = fmt.Fprintf(w, "%s\t%s\t-\t-\tdown\t\t\t\n", h.Name, h.Address)
					continue
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t\t\t\t\t\n", h.Name, h.Address, h.PID)
				for _, s := range h.Components {
					since := time.Since(s.Since).Round(time.Second)
					_, _ = fmt.Fprintf(w, "\t\t\t%s\t%s\t%s\t%d\t%s\n", s.Name, s.State, since, s.Restarts, s.LastExit)
				}
			}
			return errors.Join(append(down, w.Flush())...)
		},
	}
}
