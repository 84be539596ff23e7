package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/test/cluster/cluster"
	"github.com/manul-net/manul/test/cluster/nodeinit"
)

func buildCommand(o *cluster.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build Kubernetes, etcd, CoreDNS and the test images into the cache, unless they are there",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cluster.Build(cmd.Context(), *o); err != nil {
				return err
			}
			o.Say("everything is built")
			return nil
		},
	}
}

func upCommand(o *cluster.Options) *cobra.Command {
	var proxy, cni string
	var fsync bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster, unless it is up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			o.Program, o.Proxy, o.CNI, o.NoFsync = program, cluster.Proxy(proxy), cluster.CNI(cni), !fsync
			c, err := cluster.Up(cmd.Context(), *o)
			if err != nil {
				return err
			}
			o.Say("cluster %s is up: %d workers, kube-proxy %s, CNI %s", c.Name(), o.Workers, proxy, cni)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Workers, "workers", 2, fmt.Sprintf("number of workers, 1 to %d", cluster.MaxWorkers))
	f.StringVar(&proxy, "proxy", string(cluster.NFTables), "mode of kube-proxy: nftables or iptables")
	f.StringVar(&cni, "cni", string(cluster.NoCNI), "pod network: none (install one) or ptp (the reference plugin, no policy)")
	f.StringSliceVar(&o.Load, "load", nil, "image archives to import on every node")
	f.BoolVar(&fsync, "fsync", true, "etcd waits for the disk; leave on where time is measured")
	return cmd
}

func downCommand(o *cluster.Options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a cluster, and check that nothing of it is left",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{o.Name}
			if all {
				var err error
				if names, err = cluster.Names(*o); err != nil {
					return err
				}
			}
			var errs []error
			for _, name := range names {
				one := *o
				one.Name = name
				if err := cluster.Down(cmd.Context(), one); err != nil {
					errs = append(errs, err)
					continue
				}
				o.Say("cluster %s is down, nothing is left", name)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove every cluster of this cache")
	return cmd
}

// nodeInitCommand is what `up` starts for each host. It is of no use otherwise.
func nodeInitCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node-init", Hidden: true}
	cmd.AddCommand(
		&cobra.Command{
			Use: "prepare CONFIG", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				program, err := os.Executable()
				if err != nil {
					return fmt.Errorf("finding this program: %w", err)
				}
				return nodeinit.Prepare(args[0], program, []string{"node-init", "run", args[0]})
			},
		},
		&cobra.Command{
			Use: "run CONFIG", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return nodeinit.Run(args[0]) },
		},
	)
	return cmd
}
